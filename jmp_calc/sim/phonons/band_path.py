"""Lines through the Brillouin zone along which bands are usually drawn."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from dataclasses import dataclass

import numpy as np
from ase.cell import Cell
from jaxtyping import Float
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


def standard_path(
    primitive: PhonopyAtoms, n_points: int, tolerance_A: float = 1e-5
) -> BandPath:
    """Return the standard path of a crystal, by seekpath if it is installed, else ASE.

    Args:
        primitive: The primitive cell.
        n_points: q-points on the longest line; shorter ones have fewer.
        tolerance_A: Largest distance of an atom from its symmetric place, angstrom.

    Source:
        Hinuma et al., Comput. Mater. Sci. 128, 140 (2017) (seekpath); Setyawan and
        Curtarolo, Comput. Mater. Sci. 49, 299 (2010) (ASE).
    """
    if importlib.util.find_spec("seekpath") is not None:
        points, pairs = _points_of_seekpath(primitive, tolerance_A)
        source = "seekpath (Hinuma et al. 2017)"
    else:
        points, pairs = _points_of_ase(primitive)
        source = "ASE (Setyawan and Curtarolo 2010)"
    reciprocal = np.linalg.inv(primitive.cell)
    lengths = [np.linalg.norm(reciprocal @ (points[b] - points[a])) for a, b in pairs]
    numbers = [round((n_points - 1) * length / max(lengths)) for length in lengths]
    return BandPath(
        lines=tuple(
            np.linspace(points[a], points[b], max(1, number) + 1)
            for (a, b), number in zip(pairs, numbers, strict=True)
        ),
        ends=tuple((_plain(a), _plain(b)) for a, b in pairs),
        source=source,
    )


Points = dict[str, Float[np.ndarray, "3"]]


def _points_of_seekpath(
    primitive: PhonopyAtoms, tolerance_A: float
) -> tuple[Points, list[tuple[str, str]]]:
    import seekpath

    # not phonopy's function: it takes points of seekpath's own cell for those of this
    # one, which is wrong if the lattice vectors are not the standard ones
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = seekpath.get_path_orig_cell(primitive.totuple(), symprec=tolerance_A)
    points = {name: np.array(q) for name, q in found["point_coords"].items()}
    return points, [(a, b) for a, b in found["path"]]


def _points_of_ase(primitive: PhonopyAtoms) -> tuple[Points, list[tuple[str, str]]]:
    # a tolerance for cells with the rounding of files
    path = Cell(primitive.cell).bandpath(npoints=0, eps=1e-4)
    pairs = [
        (a, b)
        for stretch in _stretches(path.path)
        for a, b in itertools.pairwise(stretch)
    ]
    return dict(path.special_points), pairs


def _stretches(path: str) -> list[list[str]]:
    from ase.dft.kpoints import parse_path_string

    stretches: list[list[str]] = parse_path_string(path)
    return stretches


def _plain(label: str) -> str:
    letters = label.rstrip("0123456789").rstrip("_")
    number = label[len(letters) :].lstrip("_")
    letters = GREEK.get(letters.upper(), letters)
    return f"{letters}_{number}" if number else letters


def _drawn(name: str) -> str:
    letter, _, number = name.partition("_")
    text = LATEX.get(letter, f"\\mathrm{{{letter}}}")
    return f"${text}_{{{number}}}$" if number else f"${text}$"
