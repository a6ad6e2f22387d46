"""Reference energies of the elements for the data of a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ase.data import chemical_symbols

from jmp_calc.errors import DataError
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.references import ReferenceFit


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceChoice:
    """References, and where they come from."""

    kind: str
    """One of ``REFERENCES``."""
    values: dict[int, float] | None
    """eV by atomic number; None: energies are relative."""
    note: str
    """Where they come from, in words."""


def choose_references(
    word: str,
    *,
    elements: Sequence[int],
    has_energies: bool,
    free_atoms: Mapping[int, float],
    fitted: Mapping[int, float],
    find: Callable[[str], HeadSpec],
    fit_kept: Callable[[], ReferenceFit] | None,
) -> ReferenceChoice:
    """Return the references of a run.

    By default a kept head gets references that are fitted to what it leaves of the
    energies. A new head gets the energies of the free atoms if the data hold one of
    every element, and else references that are fitted to the energies.

    Args:
        word: ``auto``, ``least-squares``, ``isolated-atoms``, ``none`` or
            ``head:NAME``.
        elements: Atomic numbers in all parts of the data.
        has_energies: Whether there are energies.
        free_atoms: Energies of free atoms in the data, eV.
        fitted: References fitted to the energies of the training part, eV.
        find: Returns a head of the weights by name.
        fit_kept: Fits references to what the kept head leaves; None: the head is new.

    Raises:
        DataError: If there is no reference for some element, or there are no energies
            to fit to.
    """
    if word == "auto":
        word = _automatic(elements, has_energies, free_atoms, fit_kept is not None)
    if word == "none":
        note = "none: energies are relative, comparable at equal composition only"
        return ReferenceChoice(kind=word, values=None, note=note)
    if word == "isolated-atoms":
        values, note = dict(free_atoms), "energies of the free atoms in the data"
    elif word.startswith("head:"):
        spec = find(word.removeprefix("head:"))
        if spec.references is None:
            raise DataError(
                f"head {spec.name!r} has no references, its energies are relative; "
                "choose --references least-squares"
            )
        values, note = dict(spec.references), f"those of head {spec.name!r}"
    elif fit_kept is not None:
        values, note = _fitted(fit_kept())
    else:
        if not has_energies:
            raise DataError(
                "there are no energies to fit references to; choose --references none"
            )
        values, note = dict(fitted), "least squares over the training energies"
    _check_elements(values, elements, word)
    kept = (
        {z: values[z] for z in sorted(elements)} if word == "least-squares" else values
    )
    return ReferenceChoice(kind=word, values=kept, note=note)


def _automatic(
    elements: Sequence[int],
    has_energies: bool,
    free_atoms: Mapping[int, float],
    is_kept: bool,
) -> str:
    if not has_energies:
        return "none"
    if not is_kept and set(elements) <= set(free_atoms):
        return "isolated-atoms"
    return "least-squares"


def _fitted(fit: ReferenceFit) -> tuple[dict[int, float], str]:
    note = "least squares over what the kept head leaves of the training energies"
    if not fit.is_unique:
        note += (
            f" (compositions fix {fit.rank} of {len(fit.references)} numbers; single "
            "ones mean nothing)"
        )
    return dict(fit.references), note


def _check_elements(
    values: Mapping[int, float], elements: Sequence[int], word: str
) -> None:
    missing = [chemical_symbols[z] for z in sorted(elements) if z not in values]
    if not missing:
        return
    names = ", ".join(missing)
    if word == "isolated-atoms":
        raise DataError(
            f"the data hold no free atom of {names}; add one frame with a single atom "
            "of each, or choose --references least-squares"
        )
    if word == "least-squares":
        raise DataError(
            f"{names} occurs in the data that validate or test, but not in those that "
            "train, so that it would have no reference; move such structures to the "
            "training data, or leave them out"
        )
    raise DataError(
        f"there is no reference for {names} in {word}; choose --references "
        "least-squares"
    )


def reference_table(choice: ReferenceChoice, counts: Mapping[int, int]) -> str:
    """Return the references as a table of text.

    Args:
        choice: The references.
        counts: Training systems that hold each element, by atomic number.
    """
    lines = [f"references  {choice.note}"]
    for number in sorted(counts):
        value = None if choice.values is None else choice.values.get(number)
        text = "–" if value is None else f"{value:.4f} eV"
        lines.append(
            f"  {chemical_symbols[number]:3s}{text:>18s}   in {counts[number]} systems"
        )
    return "\n".join(lines)
