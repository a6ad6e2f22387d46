"""Structures -> labelled structures, with any ASE calculator, in parallel, resumable.

Results are appended to a journal as they come, one JSON object a line, so that nothing
that was computed is lost; the labelled file is written from it in the order of the
structures.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from filelock import FileLock, Timeout
from jaxtyping import Float

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing

PROPERTIES = ("energy", "forces", "stress")
"""What is asked of the calculator, where it has it."""
CHUNK = 8
"""Structures that a process labels before it reports."""

Progress = Callable[[int, int, int], None]
"""Called with labelled, failed and all structures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalculatorChoice:
    """Which calculator labels, so that each process can make its own."""

    name: str
    """``tblite``, ``emt``, ``module:function``, or weights for ``JMPCalculator``."""
    options: Mapping[str, Any]
    """Keywords of the calculator."""

    def build(self) -> Calculator:
        """Return a new calculator.

        Raises:
            ArgumentError: If it is not installed, not found, or refuses its keywords.
        """
        try:
            calculator = _factory(self.name)(**self.options)
        except TypeError as error:
            raise ArgumentError(
                f"calculator {self.name!r} does not take the options "
                f"{dict(self.options)}: {error}"
            ) from error
        if not callable(getattr(calculator, "get_potential_energy", None)):
            raise ArgumentError(
                f"{self.name!r} gave {calculator!r}, which is not an ASE calculator"
            )
        return calculator  # type: ignore[no-any-return]  # checked

    @property
    def level_of_theory(self) -> str:
        """What made the labels, in words."""
        options = ", ".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        name = "GFN-xTB (tblite)" if self.name == "tblite" else self.name
        return f"{name} ({options})" if options else name


def _factory(name: str) -> Callable[..., Any]:
    if name == "emt":
        from ase.calculators.emt import EMT

        return EMT
    if name == "tblite":
        try:
            from tblite.ase import TBLite
        except ModuleNotFoundError as error:
            raise ArgumentError(
                "tblite is not installed; run: pip install 'jmp-calc[xtb]'"
            ) from error
        return lambda method="GFN2-xTB", **options: TBLite(
            method=method, verbosity=0, **options
        )
    if ":" in name and not Path(name).exists():
        module, _, function = name.partition(":")
        try:
            found: Callable[..., Any] = getattr(
                importlib.import_module(module), function
            )
            return found
        except (ImportError, AttributeError, ValueError) as error:
            raise ArgumentError(
                f"calculator {name!r} cannot be imported ({error}); give "
                "module:function, with the module on PYTHONPATH"
            ) from error
    from jmp_calc.calculator import JMPCalculator

    return lambda **options: JMPCalculator(name, **options)


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
    marks = {key: atoms.info.get(key) for key in ("charge", "spin")}
    words = [choice.name, sorted(map(str, choice.options.items())), marks]
    digest.update(json.dumps(words, default=str).encode())
    return digest.hexdigest()


def label_structures(
    structures: Sequence[Atoms],
    choice: CalculatorChoice,
    out: Path,
    *,
    processes: int = 1,
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
        _label(todo, choice, journal, known, processes, len(set(keys)), progress)
        return _finish(structures, keys, known, choice, out, n_known)


def _label(
    todo: Mapping[str, Atoms],
    choice: CalculatorChoice,
    journal: Path,
    known: dict[str, dict[str, Any]],
    processes: int,
    total: int,
    progress: Progress | None,
) -> None:
    with journal.open("a", encoding="utf-8") as file:
        for key, found in _results(todo, choice, processes):
            known[key] = found
            file.write(json.dumps({"key": key, **found}) + "\n")
            file.flush()
            os.fsync(file.fileno())
            if progress is not None:
                n_failed = sum("error" in value for value in known.values())
                progress(len(known) - n_failed, n_failed, total)


def _results(
    todo: Mapping[str, Atoms], choice: CalculatorChoice, processes: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    items = list(todo.items())
    if processes <= 1 or len(items) <= 1:
        calculator = choice.build()
        for key, atoms in items:
            yield key, _labels(atoms, calculator)
        return
    size = max(1, min(CHUNK, len(items) // processes))
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start, initargs=(choice,)
    ) as pool:
        for done in as_completed([pool.submit(_work, chunk) for chunk in chunks]):
            yield from done.result()


_CALCULATOR: list[Calculator] = []


def _start(choice: CalculatorChoice) -> None:
    _CALCULATOR[:] = [choice.build()]


def _work(items: Sequence[tuple[str, Atoms]]) -> list[tuple[str, dict[str, Any]]]:
    return [(key, _labels(atoms, _CALCULATOR[0])) for key, atoms in items]


def _labels(atoms: Atoms, calculator: Calculator) -> dict[str, Any]:
    """Return the labels of a structure, or why it has none."""
    atoms = atoms.copy()
    atoms.set_constraint()
    atoms.calc = calculator
    found: dict[str, Any] = {}
    try:
        _set_electrons(atoms, calculator)
        found["energy"] = float(atoms.get_potential_energy())
        implemented = getattr(calculator, "implemented_properties", ())
        if "forces" in implemented:
            found["forces"] = atoms.get_forces().tolist()
        if "stress" in implemented and atoms.pbc.all():
            found["stress"] = atoms.get_stress(voigt=False).tolist()
    except Exception as error:  # noqa: BLE001 (a calculator may raise anything)
        calculator.reset()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    if not all(np.isfinite(value).all() for value in found.values()):
        return {"error": "a label is not finite"}
    return found


def _set_electrons(atoms: Atoms, calculator: Calculator) -> None:
    """Hand charge and spin of the structure to a calculator that reads them there."""
    charge, spin = atoms.info.get("charge"), atoms.info.get("spin")
    if charge is not None:
        atoms.set_initial_charges([float(charge) / len(atoms)] * len(atoms))
    if spin is not None:
        atoms.set_initial_magnetic_moments([float(spin) / len(atoms)] * len(atoms))
    calculator.reset()


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Return what is known; drop a last line that a killed process left unfinished."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with replacing(path) as new:
            new.write_text(whole, encoding="utf-8")
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
        with replacing(path) as new:
            new.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
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
    if "stress" in found:
        new.info["REF_stress"] = np.array(found["stress"])
    if "forces" in found:
        new.arrays["REF_forces"] = _array(found["forces"])
    return new


def _array(values: Any) -> Float[np.ndarray, "atoms 3"]:
    return np.asarray(values, dtype=np.float64)
