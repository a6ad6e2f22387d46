"""Record: the bytes of one sample in a store; arrays only, nothing pickled.

A record is the CRC-32 of what follows (4 bytes, little endian), then a safetensors
block; texts are arrays of UTF-8 bytes. Parts that a sample does not have are absent, so
that a record does not change when new parts are invented.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from jmp_calc.errors import DataError
from jmp_calc.graph.neighbors import neighbor_list
from jmp_train.data.sample import Sample

PAIR_CUTOFF = 5.0
"""Distance up to which pairs of atoms are counted as a measure of cost, Å."""

OWN_LABELS = ("energy", "forces", "stress")
"""Labels that are no targets."""

Arrays = dict[str, NDArray[Any]]

_TEXTS = ("source", "group", "task")
_SEPARATOR = "\n"


def encode_sample(sample: Sample) -> bytes:
    """Return the record of a sample.

    Args:
        sample: Any sample.

    Raises:
        DataError: If the name of a target has a line break.
    """
    arrays: Arrays = {
        "numbers": sample.numbers.astype(np.uint8),
        "positions": np.ascontiguousarray(sample.positions, dtype=np.float64),
        "cell": np.ascontiguousarray(sample.cell, dtype=np.float64),
        "pbc": sample.pbc.astype(np.uint8),
        "tags": sample.tags.astype(np.uint8),
    }
    if sample.energy is not None:
        arrays["energy"] = np.array([sample.energy], dtype=np.float64)
    for name in ("forces", "stress"):
        value = getattr(sample, name)
        if value is not None:
            arrays[name] = np.ascontiguousarray(value, dtype=np.float64)
    if sample.fixed is not None:
        arrays["fixed"] = sample.fixed.astype(np.uint8)
    for name in _TEXTS:
        arrays[name] = _from_text(getattr(sample, name))
    if sample.name:
        arrays["name"] = _from_text(sample.name)
    if sample.targets:
        arrays |= _from_targets(sample.targets)
    block = safetensors.numpy.save(arrays)
    return struct.pack("<I", zlib.crc32(block)) + block


def decode_sample(record: bytes) -> Sample:
    """Return the sample of a record.

    Args:
        record: What :func:`encode_sample` returned.

    Raises:
        DataError: If the checksum or the layout is wrong.
    """
    if len(record) < 4 or struct.unpack("<I", record[:4])[0] != zlib.crc32(record[4:]):
        raise DataError("the checksum does not fit")
    try:
        arrays = safetensors.numpy.load(record[4:])
        energy, fixed = arrays.get("energy"), arrays.get("fixed")
        return Sample(
            numbers=arrays["numbers"].astype(np.int64),
            positions=arrays["positions"],
            cell=arrays["cell"],
            pbc=arrays["pbc"].astype(bool),
            energy=None if energy is None else float(energy[0]),
            forces=arrays.get("forces"),
            stress=arrays.get("stress"),
            targets=_to_targets(arrays),
            tags=arrays["tags"].astype(np.int64),
            fixed=None if fixed is None else fixed.astype(bool),
            name=_to_text(arrays["name"]) if "name" in arrays else "",
            **{name: _to_text(arrays[name]) for name in _TEXTS},
        )
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"the record has another layout ({error})") from error


def label_names(sample: Sample) -> list[str]:
    """Return what is labelled: energy, forces, stress, then targets.

    Args:
        sample: Any sample.
    """
    own = [name for name in OWN_LABELS if getattr(sample, name) is not None]
    return [*own, *sample.targets]


def count_pairs(sample: Sample) -> int:
    """Return the number of ordered pairs of atoms within ``PAIR_CUTOFF``.

    Args:
        sample: Any sample.
    """
    source, *_ = neighbor_list(
        sample.positions, sample.cell, sample.pbc, cutoff=PAIR_CUTOFF
    )
    return len(source)


def _from_text(text: str) -> NDArray[Any]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _to_text(array: NDArray[Any]) -> str:
    return array.tobytes().decode()


def _from_targets(targets: Mapping[str, float]) -> Arrays:
    if any(_SEPARATOR in name for name in targets):
        raise DataError(
            f"targets are called {list(targets)}; a name must not have a line break"
        )
    return {
        "targets": np.array(list(targets.values()), dtype=np.float64),
        "target_names": _from_text(_SEPARATOR.join(targets)),
    }


def _to_targets(arrays: Arrays) -> dict[str, float]:
    if "targets" not in arrays:
        return {}
    names = _to_text(arrays["target_names"]).split(_SEPARATOR)
    return dict(zip(names, arrays["targets"].tolist(), strict=True))
