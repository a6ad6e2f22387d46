"""The neighbor search in torch, on any device: for large systems on a GPU.

Atoms are sorted into bins about as wide as the cutoff, and each is tried with the atoms
of the bins around. CPUs have other searches. Whether it pays off on GPUs is not
measured: it has been run on the CPU only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.graph.images import Pairs
from jmp_calc.graph.keys import EdgeKeys

MIN_ATOMS = 500
"""Smaller systems are searched on the CPU. A guess: not measured on any GPU."""

_AT_A_TIME = 1 << 21
"""Pairs that are tried together. It bounds the memory to some twenty arrays of 16 MB
and is a guess, too."""
_MAX_BINS = 1 << 20
"""Bins in one direction; their numbers in three directions fit into 64 bits."""


def is_for(device: torch.device | None, n_atoms: int) -> bool:
    """Return whether a system is searched on a device rather than by the CPU.

    Args:
        device: That of the network; None: there is none.
        n_atoms: Number of atoms of the system.
    """
    return device is not None and device.type == "cuda" and n_atoms >= MIN_ATOMS


def search_on_device(
    positions: Float[np.ndarray, "atoms 3"],
    frame: Float[np.ndarray, "3 3"],
    repeats: Bool[np.ndarray, "3"],
    *,
    reach: float,
    device: torch.device,
) -> Pairs:
    """Return all pairs within reach in canonical order, each atom with itself too.

    Distances are those of the device, whose last digits may be others than those of
    the CPU: whoever asks has to leave a margin.

    Args:
        positions: Angstrom; from the first row of the frame to the last one where it
            does not repeat, anywhere else. At least one atom.
        frame: Rows are three independent vectors, angstrom.
        repeats: Along which of them everything repeats.
        reach: Largest distance, angstrom.
        device: Where to search.

    Returns:
        Target, source and shift of each pair.
    """
    inverse = np.linalg.inv(frame)
    home = np.where(repeats, np.floor(positions @ inverse), 0).astype(np.int64)
    inside = positions - home @ frame
    bins = _sorted_into_bins(
        inside @ inverse,
        # how far a pair may reach, as a part of each height of the frame
        margin=reach * np.linalg.norm(inverse, axis=0) + 1e-9,
        repeats=repeats,
        device=device,
    )
    found = [
        keys
        for some in _bin_pairs(bins)
        for keys in _keys_of_near(bins, some, inside, frame, reach)
    ]
    keys = torch.cat(found).sort().values.numpy(force=True)
    source, target, shift = EdgeKeys(
        len(positions), [np.array([bins.most], dtype=np.int64)]
    ).edges(keys)
    for axis in np.flatnonzero(home.any(axis=0)):
        shift[:, axis] += home[target, axis] - home[source, axis]
    return target, source, shift


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bins:
    """Atoms sorted into equal parts of a frame; bins without atoms are not listed."""

    parts: list[int]
    """Into how many parts each vector of the frame is cut."""
    away: list[int]
    """How many bins away the other atom of a pair may be, in each direction."""
    repeats: list[bool]
    """Along which directions everything repeats."""
    atom: Int[Tensor, " atoms"]
    """Atoms, bin by bin."""
    occupied: Int[Tensor, " bins"]
    """Numbers of the bins with atoms, ascending."""
    count: Int[Tensor, " bins"]
    """How many atoms there are in each."""
    start: Int[Tensor, " bins"]
    """Where in ``atom`` they begin."""

    @property
    def most(self) -> list[int]:
        """The largest shift in each direction."""
        return [
            -(-away // parts) if repeats else 0
            for away, parts, repeats in zip(
                self.away, self.parts, self.repeats, strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _BinPairs:
    """Bins and images of bins that are near them."""

    target: Int[Tensor, " pairs"]
    """Which of the occupied bins."""
    source: Int[Tensor, " pairs"]
    """Which one has an image near it."""
    shift: tuple[Int[Tensor, " pairs"], ...]
    """Where that image is, one array for each direction."""


def _sorted_into_bins(
    fractional: Float[np.ndarray, "atoms 3"],
    *,
    margin: Float[np.ndarray, "3"],
    repeats: Bool[np.ndarray, "3"],
    device: torch.device,
) -> _Bins:
    parts = np.clip(np.floor(1 / margin), 1, _MAX_BINS).astype(np.int64)
    away = np.ceil(margin * parts).astype(np.int64)
    away = np.where(repeats, away, np.minimum(away, parts - 1))
    # rounding may put an atom on the border of the frame
    place = np.clip((fractional * parts).astype(np.int64), 0, parts - 1)
    number = torch.from_numpy(place @ [parts[1] * parts[2], parts[2], 1]).to(device)
    in_order, atom = number.sort(stable=True)
    occupied, count = torch.unique_consecutive(in_order, return_counts=True)
    return _Bins(
        parts=parts.tolist(),
        away=away.tolist(),
        repeats=repeats.tolist(),
        atom=atom,
        occupied=occupied,
        count=count,
        start=count.cumsum(0) - count,
    )


def _bin_pairs(bins: _Bins) -> Iterator[_BinPairs]:
    """Yield all pairs of near bins, some at a time."""
    widths = [2 * away + 1 for away in bins.away]
    n_offsets = math.prod(widths)
    n_tried = len(bins.occupied) * n_offsets
    for begin in range(0, n_tried, _AT_A_TIME):
        offset = torch.arange(
            begin, min(begin + _AT_A_TIME, n_tried), device=bins.occupied.device
        )
        first = offset // n_offsets
        offset -= first * n_offsets
        place = bins.occupied[first]
        number, stride = torch.zeros_like(first), 1
        shifts: list[Tensor] = []
        is_there = torch.ones_like(first, dtype=torch.bool)
        for axis in (2, 1, 0):
            parts, width = bins.parts[axis], widths[axis]
            along = place % parts + offset % width - bins.away[axis]
            place, offset = place // parts, offset // width
            shift = along // parts
            if not bins.repeats[axis]:
                is_there &= shift == 0
            number += (along - shift * parts) * stride
            stride *= parts
            shifts.insert(0, shift)
        second = torch.searchsorted(bins.occupied, number)
        second.clamp_(max=len(bins.occupied) - 1)
        is_there &= bins.occupied[second] == number
        kept = is_there.nonzero()[:, 0]
        yield _BinPairs(
            target=first[kept],
            source=second[kept],
            shift=tuple(shift[kept] for shift in shifts),
        )


def _keys_of_near(
    bins: _Bins,
    some: _BinPairs,
    positions: Float[np.ndarray, "atoms 3"],
    frame: Float[np.ndarray, "3 3"],
    reach: float,
) -> Iterator[Int[Tensor, " found"]]:
    """Yield the keys of the pairs of atoms that are within reach, some at a time."""
    device, n_atoms = bins.atom.device, len(positions)
    coordinates = [torch.from_numpy(x).to(device)[bins.atom] for x in positions.T]
    shifts = [shift.double() for shift in some.shift]  # else products are float32
    images = [
        sum(shift * length for shift, length in zip(shifts, along, strict=True))
        for along in frame.T.tolist()
    ]
    width_of = bins.count[some.source]
    n_pairs = bins.count[some.target] * width_of
    ends = n_pairs.cumsum(0)
    begins = ends - n_pairs
    n_tried = int(ends[-1]) if len(ends) else 0
    for begin in range(0, n_tried, _AT_A_TIME):
        number = torch.arange(begin, min(begin + _AT_A_TIME, n_tried), device=device)
        which = torch.searchsorted(ends, number, right=True)
        number -= begins[which]
        width = width_of[which]
        row = number // width
        target = bins.start[some.target][which] + row
        source = bins.start[some.source][which] + number - row * width
        squared = torch.zeros(len(number), dtype=torch.float64, device=device)
        for coordinate, image in zip(coordinates, images, strict=True):
            difference = coordinate[source]
            difference -= coordinate[target]
            difference += image[which]
            squared.addcmul_(difference, difference)
        near = (squared <= reach**2).nonzero()[:, 0]
        key = bins.atom[target[near]] * n_atoms + bins.atom[source[near]]
        for shift, most in zip(some.shift, bins.most, strict=True):
            if most:
                key *= 2 * most + 1
                key += shift[which[near]] + most
        yield key
