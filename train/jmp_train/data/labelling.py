"""Structures -> labelled structures, with any ASE calculator, in parallel, resumable.

Results are appended to a journal as they come, one JSON object a line, so that nothing
that was computed is lost; the labelled file is written from it in the order of the
structures.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from filelock import FileLock, Timeout
from jaxtyping import Float

from jmp_calc.calculator.named import CalculatorChoice as CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.sim.output import LineFile, extxyz_text, save_text, writing
from jmp_train.data.families.user_labels import (
    ENERGY_KEYS,
    FORCES_KEYS,
    STRESS_KEYS,
)
from jmp_train.data.label_workers import Found, label_all

PROPERTIES = ("energy", "forces", "stress")
"""What is asked of the calculator, where it has it."""
LABEL_UNITS = "energy eV, forces eV/A, stress eV/A^3"
"""What ``info["label_units"]`` of a labelled structure says."""

Progress = Callable[[int, int, int], None]
"""Called with labelled, failed and all structures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelReport:
    """How labelling ended."""

    n_labelled: int
    """Structures with labels."""
    n_known: int
    """Of these, already labelled before."""
    failed: tuple[tuple[int, str], ...]
    """Number and reason of each structure without labels."""


def structure_key(atoms: Atoms, calculator: str) -> str:
    """Return a name for a structure and what labels it.

    All that a calculator can see counts: with the geometry also tags, initial charges
    and moments, and ``info``.

    Args:
        atoms: The structure.
        calculator: ``CalculatorChoice.identity``.
    """
    digest = hashlib.sha256(calculator.encode())
    digest.update(atoms.cell.array.tobytes() + atoms.pbc.tobytes())
    for name, array in sorted(atoms.arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    for name, value in sorted(atoms.info.items(), key=str):
        digest.update(f"{name}={value!r}".encode())
    return digest.hexdigest()


def label_structures(
    structures: Sequence[Atoms],
    choice: CalculatorChoice,
    out: Path,
    *,
    processes: int = 0,
    timeout_s: float | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> LabelReport:
    """Label structures and write them as extended XYZ with REF_energy and so on.

    Args:
        structures: What to label.
        choice: The calculator; each process makes its own.
        out: The labelled file; a journal ``OUT.journal.jsonl`` beside it remembers
            what is done, and ``OUT.failed.json`` lists what failed.
        processes: How many structures are labelled at the same time, each in a process
            that may crash; 0: one after the other in the calling process.
        timeout_s: Longest time for one structure; it fails then. None: any. Needs a
            process.
        retry_failed: Try those again that failed before.
        progress: Hears how far it is.

    Raises:
        ArgumentError: If there are no structures, another process labels into the same
            file, the file exists and nothing says that it was made here, or the
            calculator cannot be made.
        DataError: If a file cannot be written, or the journal is damaged.
    """
    if not structures:
        raise ArgumentError("there are no structures to label")
    journal = out.with_name(out.name + ".journal.jsonl")
    if out.exists() and not journal.exists():
        raise ArgumentError(
            f"{out} exists and was not made by labelling (there is no {journal.name} "
            "beside it); choose another --out, or remove it"
        )
    choice.build()  # a wrong calculator stops here, and not in every process
    lock = FileLock(f"{out}.lock")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # FileLock would take a folder that cannot be written to for a held lock
        Path(lock.lock_file).touch()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ArgumentError(
            f"another process labels into {out}; wait for it, or choose another --out"
        ) from None
    with lock:
        identity = choice.identity
        keys = [structure_key(atoms, identity) for atoms in structures]
        wanted = dict(zip(keys, structures, strict=True))
        known, n_bytes = _read_journal(journal, wanted)
        if retry_failed:
            known = {key: found for key, found in known.items() if "error" not in found}
        n_known = sum("error" not in known.get(key, {"error": ""}) for key in keys)
        todo = {key: atoms for key, atoms in wanted.items() if key not in known}
        results = label_all(todo, choice, processes=processes, timeout_s=timeout_s)
        file = LineFile(journal, overwrite=True, keep_bytes=n_bytes or None)
        with contextlib.closing(file):
            _record(results, file, known, len(wanted), progress)
        return _finish(structures, keys, known, choice, out, n_known)


def _record(
    results: Iterable[tuple[str, Found]],
    journal: LineFile,
    known: dict[str, Found],
    total: int,
    progress: Progress | None,
) -> None:
    """Append each result to the journal as soon as it is there."""
    n_failed = sum("error" in found for found in known.values())
    if progress is not None:
        progress(len(known) - n_failed, n_failed, total)
    for key, found in results:
        journal.append(json.dumps({"key": key, **found}) + "\n")
        known[key] = found
        n_failed += "error" in found
        if progress is not None:
            progress(len(known) - n_failed, n_failed, total)


def _read_journal(path: Path, wanted: Container[str]) -> tuple[dict[str, Found], int]:
    """Return what is known, and the bytes of the lines that are whole.

    A last line that a killed process left unfinished does not count.
    """
    known: dict[str, Found] = {}
    n_bytes = 0
    if not path.is_file():
        return known, n_bytes
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            n_bytes += len(line)
            try:
                record = json.loads(line)
                key = record.pop("key")
            except (ValueError, KeyError, AttributeError) as error:
                raise DataError(
                    f"line {number} of {path} is damaged; delete that line, and its "
                    "structure is labelled again"
                ) from error
            if key in wanted:
                known[key] = record
    return known, n_bytes


def _finish(
    structures: Sequence[Atoms],
    keys: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    choice: CalculatorChoice,
    out: Path,
    n_known: int,
) -> LabelReport:
    failed: list[tuple[int, str]] = []
    with writing(out), replacing(out) as new, new.open("w", encoding="utf-8") as file:
        for number, (atoms, key) in enumerate(zip(structures, keys, strict=True)):
            found = known[key]
            if "error" in found:
                failed.append((number, str(found["error"])))
            else:
                file.write(extxyz_text(_with_labels(atoms, found, choice)))
    if len(failed) == len(structures):
        out.unlink()
    facts = [
        {
            "number": number,
            "formula": structures[number].get_chemical_formula(),
            "reason": reason,
        }
        for number, reason in failed
    ]
    path = out.with_name(out.name + ".failed.json")
    if facts:
        save_text(path, json.dumps(facts, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)
    return LabelReport(
        n_labelled=len(structures) - len(failed), n_known=n_known, failed=tuple(failed)
    )


def _with_labels(
    atoms: Atoms, found: Mapping[str, Any], choice: CalculatorChoice
) -> Atoms:
    new: Atoms = atoms.copy()
    new.calc = None
    new.set_constraint()
    # Labels of another origin would mix with those of the calculator.
    for store in (new.info, new.arrays):
        for key in [key for key in store if _is_label(key)]:
            del store[key]
    new.info["REF_energy"] = found["energy"]
    new.info["level_of_theory"] = choice.level_of_theory
    new.info["label_units"] = LABEL_UNITS
    if "stress" in found:
        new.info["REF_stress"] = np.array(found["stress"])
    if "forces" in found:
        new.arrays["REF_forces"] = _array(found["forces"])
    return new


def _is_label(key: str) -> bool:
    usual = (*ENERGY_KEYS, *FORCES_KEYS, *STRESS_KEYS)
    return key in usual or "virial" in key.lower()


def _array(values: Any) -> Float[np.ndarray, "atoms 3"]:
    return np.asarray(values, dtype=np.float64)
