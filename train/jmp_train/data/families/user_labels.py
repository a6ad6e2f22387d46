"""Which values of a user's frames are labels, and what they must look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.errors import DataError, did_you_mean
from jmp_train.data.families.labels import Labels, with_unit
from jmp_train.data.source import FamilyOptions

ENERGY_KEYS = ("REF_energy", "energy")
"""Usual names of the total energy, eV, the preferred one first."""

FORCES_KEYS = ("REF_forces", "forces")
"""Usual names of the forces, eV/Å."""

STRESS_KEYS = (
    "REF_stress",
    "stress",
    "REF_virial",
    "REF_virials",
    "virial",
    "virials",
)
"""Usual names of the stress, eV/Å³, and of the virial (minus stress times volume), eV.
Any name that holds "virial" is one."""

NONE = "none"
"""What to give as a key for a label that shall not be used."""

_ASYMMETRY = 0.01
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelKeys:
    """Names of the labels of a set; None: it has no such label."""

    energy: str | None
    """Total energy, eV."""
    forces: str | None
    """Forces, eV/Å."""
    stress: str | None
    """Stress, eV/Å³, or virial, eV."""
    targets: tuple[str, ...]
    """Others."""


def choose_keys(counts: Counter[str], n: int, options: FamilyOptions) -> LabelKeys:
    """Return the names of the labels.

    Args:
        counts: In how many frames each name has a value.
        n: Number of frames.
        options: Names that the user asked for.

    Raises:
        DataError: If one that was asked for is in no frame, or there is no label, or
            something looks like forces or an energy but has no usual name, or the
            preferred name is in fewer frames than another usual one, or names of two
            levels of theory are mixed.
    """
    targets = tuple(with_unit(target)[0] for target in options.targets)
    asked = (options.energy_key, options.forces_key, options.stress_key, *targets)
    for name in asked:
        if name not in (None, NONE) and counts[str(name)] == 0:
            raise DataError(
                f"none of the {n} frames has a value {name!r}"
                + did_you_mean(str(name), counts)
                + f"; found: {found_keys(counts, n)}"
            )
    keys = LabelKeys(
        energy=_choose(counts, n, options.energy_key, ENERGY_KEYS),
        forces=_choose(counts, n, options.forces_key, FORCES_KEYS),
        stress=_choose(counts, n, options.stress_key, STRESS_KEYS),
        targets=targets,
    )
    _check_unused(counts, n, keys, options)
    _check_one_level(keys, options)
    if keys.energy is None and keys.forces is None and not targets:
        raise DataError(
            f"the {n} frames have no energy ({', '.join(ENERGY_KEYS)}) and no forces "
            f"({', '.join(FORCES_KEYS)}); found: {found_keys(counts, n)}; name the "
            "keys that hold the labels"
        )
    return keys


def _check_unused(
    counts: Counter[str], n: int, keys: LabelKeys, options: FamilyOptions
) -> None:
    """Refuse to leave out energies or forces only because of their name."""
    for kind, given, key, usual in (
        ("energy", options.energy_key, keys.energy, ENERGY_KEYS),
        ("force", options.forces_key, keys.forces, FORCES_KEYS),
    ):
        like = [
            name for name in counts if kind in name.lower() and name not in keys.targets
        ]
        if given is None and key is None and like:
            raise DataError(
                f"no value has a usual name of the {kind} ({', '.join(usual)}), but "
                f"{like[0]!r} looks like one; found: {found_keys(counts, n)}; name the "
                f"key that holds it, or say {NONE!r} if none does"
            )


def _check_one_level(keys: LabelKeys, options: FamilyOptions) -> None:
    """Refuse labels of which only some are called reference labels.

    ``REF_energy`` beside ``forces`` is the usual trace of a file in which another
    program has written its own results beside the reference.
    """
    found = {
        "energy": (keys.energy, options.energy_key),
        "forces": (keys.forces, options.forces_key),
        "stress": (keys.stress, options.stress_key),
    }
    chosen = {
        kind: key
        for kind, (key, given) in found.items()
        if key is not None and given is None
    }
    is_reference = {kind: key.startswith("REF_") for kind, key in chosen.items()}
    references = [chosen[k] for k in ("energy", "forces") if is_reference.get(k)]
    others = [kind for kind in chosen if not is_reference[kind]]
    if references and others:
        key = chosen[others[0]]
        raise DataError(
            f"{references[0]!r} is a reference label, and {key!r} may be of another "
            f"level of theory; say {key!r} if it is the label of the {others[0]}, or "
            f"{NONE!r}"
        )


def found_keys(counts: Counter[str], n: int) -> str:
    """Return the names that were found and in how many frames, as text.

    Args:
        counts: In how many frames each name has a value.
        n: Number of frames.
    """
    rows = [f"{name} ({count} of {n})" for name, count in sorted(counts.items())]
    return ", ".join(rows) or "nothing"


def _choose(
    counts: Counter[str], n: int, given: str | None, names: tuple[str, ...]
) -> str | None:
    if given is not None:
        return None if given == NONE else given
    chosen = next((name for name in names if counts[name]), None)
    most = max(names, key=lambda name: counts[name])
    if chosen is not None and counts[most] > counts[chosen]:
        raise DataError(
            f"{counts[chosen]} of {n} frames have a value {chosen!r} and "
            f"{counts[most]} have {most!r}; say which of them is the label, or {NONE!r}"
        )
    return chosen


def frame_labels(
    atoms: Atoms, values: Mapping[str, Any], keys: LabelKeys, where: str
) -> Labels:
    """Return the labels of a frame; those that it does not have are None.

    Args:
        atoms: The frame.
        values: Its values by name.
        keys: Which of them are labels.
        where: File and frame, for errors.

    Raises:
        DataError: If one does not have the shape of such a label.
    """
    forces = values.get(keys.forces) if keys.forces else None
    if forces is not None:
        forces = _floats(forces, keys.forces, where)
        if forces.shape != (len(atoms), 3):
            raise DataError(
                f"{where}: {keys.forces} has shape {forces.shape}; forces must have "
                f"{(len(atoms), 3)}"
            )
    energy = values.get(keys.energy) if keys.energy else None
    return Labels(
        energy=None if energy is None else _number(energy, keys.energy, where),
        forces=forces,
        stress=_stress(atoms, values, keys.stress, where),
        targets={
            name: _number(values[name], name, where)
            for name in keys.targets
            if name in values
        },
    )


def _stress(
    atoms: Atoms, values: Mapping[str, Any], key: str | None, where: str
) -> Float[np.ndarray, "3 3"] | None:
    # Programs write a stress of zero for molecules, where there is none.
    if key is None or key not in values or not atoms.pbc.all():
        return None
    given = _floats(values[key], key, where)
    if given.size == 6:
        stress = given.reshape(6)[_VOIGT]
    elif given.size == 9:
        stress = given.reshape(3, 3)
    else:
        raise DataError(
            f"{where}: {key} has shape {given.shape}; it must have 6 numbers (xx, yy, "
            "zz, yz, xz, xy) or 9"
        )
    difference = np.abs(stress - stress.T).max()
    if difference > _ASYMMETRY * np.abs(stress).max():
        raise DataError(
            f"{where}: {key} is not symmetric (by {difference:.2g}); a stress must be"
        )
    stress = (stress + stress.T) / 2
    if "virial" in key.lower():
        stress = -stress / atoms.cell.volume
    return np.asarray(stress)


def _floats(value: Any, name: str | None, where: str) -> Float[np.ndarray, "..."]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name} is {value!r}; it must be numbers") from None


def _number(value: Any, name: str | None, where: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"{where}: {name} is {value!r}; it must be one number")
    return float(array.reshape(()))
