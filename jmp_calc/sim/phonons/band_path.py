"""Lines through the Brillouin zone along which bands are usually drawn."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass

import numpy as np
from ase.cell import Cell
from jaxtyping import Float
from phonopy.phonon.band_structure import get_band_qpoints_by_seekpath
from phonopy.structure.atoms import PhonopyAtoms

GREEK = {"G": "Γ", "GAMMA": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}
"""Names of points -> their letters."""
LATEX = {"Γ": r"\Gamma", "Δ": r"\Delta", "Λ": r"\Lambda", "Σ": r"\Sigma"}
"""Letters -> what draws them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BandPath:
    """Straight lines between special points of the Brillouin zone."""

    lines: tuple[Float[np.ndarray, "_points 3"], ...]
    """q-points of each line with both ends, in reciprocal vectors of the primitive
    cell."""
    ends: tuple[tuple[str, str], ...]
    """Names of the two ends of each line, such as Γ, X or B_1."""
    source: str
    """Which convention the path follows."""

    @property
    def connections(self) -> list[bool]:
        """For each line whether the next one starts where it ends."""
        pairs = itertools.pairwise(self.ends)
        return [*(line[1] == following[0] for line, following in pairs), False]

    @property
    def labels(self) -> list[str]:
        """Names as phonopy has them: starts of stretches, and all ends, in LaTeX."""
        labels: list[str] = []
        is_connected = False
        for (start, end), goes_on in zip(self.ends, self.connections, strict=True):
            labels += [_drawn(end)] if is_connected else [_drawn(start), _drawn(end)]
            is_connected = goes_on
        return labels


def standard_path(primitive: PhonopyAtoms, n_points: int) -> BandPath:
    """Return the standard path of a crystal, by seekpath if it is installed, else ASE.

    Args:
        primitive: The primitive cell.
        n_points: q-points on the longest line; shorter ones have fewer.

    Source:
        Hinuma et al., Comput. Mater. Sci. 128, 140 (2017) (seekpath); Setyawan and
        Curtarolo, Comput. Mater. Sci. 49, 299 (2010) (ASE).
    """
    if importlib.util.find_spec("seekpath") is not None:
        return _path_of_seekpath(primitive, n_points)
    return _path_of_ase(primitive, n_points)


def _path_of_seekpath(primitive: PhonopyAtoms, n_points: int) -> BandPath:
    lines, labels, connections = get_band_qpoints_by_seekpath(
        primitive, n_points, is_const_interval=True
    )
    ends: list[tuple[str, str]] = []
    place = 0
    for goes_on in connections:
        ends.append((labels[place], labels[place + 1]))
        place += 1 if goes_on else 2
    return BandPath(
        lines=tuple(np.array(line) for line in lines),
        ends=tuple((_plain(a), _plain(b)) for a, b in ends),
        source="seekpath (Hinuma et al. 2017)",
    )


def _path_of_ase(primitive: PhonopyAtoms, n_points: int) -> BandPath:
    cell = Cell(primitive.cell)
    # a tolerance for cells with the rounding of files
    path = cell.bandpath(npoints=0, eps=1e-4)
    points = path.special_points
    pairs = [
        (a, b)
        for stretch in _stretches(path.path)
        for a, b in itertools.pairwise(stretch)
    ]
    reciprocal = np.linalg.inv(primitive.cell)
    length = {
        (a, b): float(np.linalg.norm(reciprocal @ (points[b] - points[a])))
        for a, b in pairs
    }
    longest = max(length.values())
    lines = [
        np.linspace(
            points[a],
            points[b],
            max(2, round((n_points - 1) * length[a, b] / longest) + 1),
        )
        for a, b in pairs
    ]
    return BandPath(
        lines=tuple(lines),
        ends=tuple((_plain(a), _plain(b)) for a, b in pairs),
        source="ASE (Setyawan and Curtarolo 2010)",
    )


def _stretches(path: str) -> list[list[str]]:
    from ase.dft.kpoints import parse_path_string

    stretches: list[list[str]] = parse_path_string(path)
    return stretches


def _plain(label: str) -> str:
    # phonopy has seekpath's names in LaTeX: $\Gamma$, $\mathrm{X}$, $\mathrm{B_1}$
    name = label.replace("$", "").replace("\\mathrm", "").replace("\\", "")
    name = name.strip("{} ").replace("{", "").replace("}", "")
    letters = name.rstrip("0123456789").rstrip("_")
    number = name[len(letters) :].lstrip("_")
    letters = GREEK.get(letters.upper(), letters)
    return f"{letters}_{number}" if number else letters


def _drawn(name: str) -> str:
    letter, _, number = name.partition("_")
    text = LATEX.get(letter, f"\\mathrm{{{letter}}}")
    return f"${text}_{{{number}}}$" if number else f"${text}$"
