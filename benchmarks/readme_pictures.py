"""Copy pictures of the examples into examples/ for the README, in few colours.

Run the examples first; each leaves its picture below runs/:

    python examples/04_aspirin.py
    python examples/06_dipeptide.py
    python examples/09_phonons.py
    python benchmarks/readme_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

PICTURES = (
    "aspirin/aspirin-distances.png",
    "dipeptide/dipeptide-phi.png",
    "silicon/silicon-bands.png",
)
COLORS = 128
"""Enough for a few curves and their smooth edges."""
WIDTH = 800
"""Pixels."""

root = Path(__file__).parents[1]
for name in PICTURES:
    with Image.open(root / "runs" / name) as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    target = root / "examples" / Path(name).name
    small.quantize(COLORS).save(target, optimize=True)
    print(f"{target.relative_to(root)} {target.stat().st_size / 1000:.0f} kB")
