"""Pack the published lists of names and shapes into one small file.

    python tests/golden/pack_keys.py FOLDER

FOLDER holds the ``keys__*.json`` files. Of each, the number of parameters, the shape of
every entry of the state dict and the order of the parameters are kept.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

PACKED = Path(__file__).parent / "published_keys.json.gz"
KEPT = ("parameter_count", "state_dict_shapes", "parameter_order")


def read_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is kept of every ``keys__<model>.json``, by model."""
    lists = {}
    for path in sorted(folder.glob("keys__*.json")):
        data = json.loads(path.read_text())
        lists[path.stem.removeprefix("keys__")] = {name: data[name] for name in KEPT}
    return lists


def read_packed() -> dict[str, dict[str, Any]]:
    """Return the same from the packed file."""
    lists: dict[str, dict[str, Any]] = json.loads(gzip.decompress(PACKED.read_bytes()))
    return lists


if __name__ == "__main__":
    text = json.dumps(read_folder(Path(sys.argv[1])), separators=(",", ":"))
    PACKED.write_bytes(gzip.compress(text.encode(), mtime=0))
