"""Structures -> labelled structures, with any ASE calculator, in parallel, resumable.

Results are appended to a journal as they come, one JSON object a line, so that nothing
that was computed is lost; the labelled file is written from it in the order of the
structures.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from filelock import FileLock, Timeout
from jaxtyping import Float

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replace_text, replacing
from jmp_train.data.calculators import CalculatorChoice as CalculatorChoice
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


def structure_key(atoms: Atoms, choice: CalculatorChoice) -> str:
    """Return a name for a structure and what labels it.

    Args:
        atoms: The structure; charge and spin in ``info`` count.
        choice: The calculator.
    """
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    marks = {
        key: atoms.info.get(key) for key in ("charge", "spin", "spin_multiplicity")
    }
    words = [choice.name, sorted(map(str, choice.options.items())), marks]
    digest.update(json.dumps(words, default=str).encode())
    return digest.hexdigest()


def label_structures(
    structures: Sequence[Atoms],
    choice: CalculatorChoice,
    out: Path,
    *,
    processes: int = 1,
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
        processes: How many structures are labelled at the same time.
        timeout_s: Longest time for one structure; it fails then. None: any.
        retry_failed: Try those again that failed before.
        progress: Hears how far it is.

    Raises:
        ArgumentError: If there are no structures, another process labels into the same
            file, or the calculator cannot be made.
    """
    if not structures:
        raise ArgumentError("there are no structures to label")
    out.parent.mkdir(parents=True, exist_ok=True)
    choice.build()  # a wrong calculator stops here, and not in every process
    lock = FileLock(f"{out}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ArgumentError(
            f"another process labels into {out}; wait for it, or choose another --out"
        ) from None
    with lock:
        keys = [structure_key(atoms, choice) for atoms in structures]
        journal = out.with_name(out.name + ".journal.jsonl")
        known = _read_journal(journal)
        if retry_failed:
            known = {key: found for key, found in known.items() if "error" not in found}
        n_known = sum("error" not in known.get(key, {"error": ""}) for key in keys)
        todo = {
            key: atoms
            for key, atoms in zip(keys, structures, strict=True)
            if key not in known
        }
        total = len(set(keys))
        results = label_all(todo, choice, processes=processes, timeout_s=timeout_s)
        _record(results, journal, known, total, progress)
        return _finish(structures, keys, known, choice, out, n_known)


def _record(
    results: Iterator[tuple[str, Found]],
    journal: Path,
    known: dict[str, Found],
    total: int,
    progress: Progress | None,
) -> None:
    """Append each result to the journal as soon as it is there."""
    with journal.open("a", encoding="utf-8") as file:
        for key, found in results:
            known[key] = found
            file.write(json.dumps({"key": key, **found}) + "\n")
            file.flush()
            os.fsync(file.fileno())
            if progress is not None:
                n_failed = sum("error" in value for value in known.values())
                progress(len(known) - n_failed, n_failed, total)


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Return what is known; drop a last line that a killed process left unfinished."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        replace_text(path, whole)
    known = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            known[record.pop("key")] = record
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise DataError(
                f"line {number} of {path} is damaged; delete that line, and its "
                "structure is labelled again"
            ) from error
    return known


def _finish(
    structures: Sequence[Atoms],
    keys: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    choice: CalculatorChoice,
    out: Path,
    n_known: int,
) -> LabelReport:
    labelled: list[Atoms] = []
    failed: list[tuple[int, str]] = []
    for number, (atoms, key) in enumerate(zip(structures, keys, strict=True)):
        found = known[key]
        if "error" in found:
            failed.append((number, str(found["error"])))
        else:
            labelled.append(_with_labels(atoms, found, choice))
    if labelled:
        with replacing(out) as new:
            ase.io.write(new, labelled, format="extxyz")
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
        replace_text(path, json.dumps(facts, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)
    return LabelReport(n_labelled=len(labelled), n_known=n_known, failed=tuple(failed))


def _with_labels(
    atoms: Atoms, found: Mapping[str, Any], choice: CalculatorChoice
) -> Atoms:
    new: Atoms = atoms.copy()
    new.calc = None
    new.set_constraint()
    for key in ("energy", "forces", "stress"):
        new.info.pop(key, None)
    new.info["REF_energy"] = found["energy"]
    new.info["level_of_theory"] = choice.level_of_theory
    new.info["label_units"] = LABEL_UNITS
    if "stress" in found:
        new.info["REF_stress"] = np.array(found["stress"])
    if "forces" in found:
        new.arrays["REF_forces"] = _array(found["forces"])
    return new


def _array(values: Any) -> Float[np.ndarray, "atoms 3"]:
    return np.asarray(values, dtype=np.float64)
