from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.references import ReferenceFit
from jmp_train.finetune.references import choose_references, reference_table
from toys.training import RULES

FREE = {1: -13.6, 8: -2041.0}
FITTED = {1: -16.0, 8: -2047.0}


def fit_kept() -> ReferenceFit:
    return ReferenceFit(references={1: -14.0, 8: -2043.0}, rank=1, residual=np.zeros(3))


def find(name: str) -> HeadSpec:
    references = None if name == "relative" else {1: -1.0, 6: -6.0, 8: -8.0}
    return HeadSpec(name=name, graph=RULES, forces="gradient", references=references)


def choose(word: str = "auto", **changes: object):
    arguments = {
        "elements": (1, 8),
        "has_energies": True,
        "free_atoms": FREE,
        "fitted": FITTED,
        "find": find,
        "fit_kept": None,
    }
    return choose_references(word, **{**arguments, **changes})


def test_a_new_head_takes_free_atoms_if_there_is_one_of_every_element() -> None:
    choice = choose()
    assert (choice.kind, choice.values) == ("isolated-atoms", FREE)


@pytest.mark.parametrize("free", [{}, {1: -13.6}])
def test_else_references_are_fitted_to_the_energies(free) -> None:
    choice = choose(free_atoms=free)
    assert (choice.kind, choice.values) == ("least-squares", FITTED)


def test_a_kept_head_takes_what_it_leaves_of_the_energies() -> None:
    choice = choose(fit_kept=fit_kept)
    assert choice.kind == "least-squares"
    assert choice.values == {1: -14.0, 8: -2043.0}
    assert "compositions fix 1 of 2 numbers" in choice.note


def test_data_without_energies_have_no_references() -> None:
    choice = choose(has_energies=False)
    assert (choice.kind, choice.values) == ("none", None)


def test_references_of_a_head_are_taken_as_they_are() -> None:
    assert choose("head:qm7x").values == {1: -1.0, 6: -6.0, 8: -8.0}


def test_no_references_can_be_asked_for() -> None:
    assert choose("none").values is None


def test_free_atoms_that_are_missing_are_named() -> None:
    with pytest.raises(
        DataError, match=r"no free atom of C; add one frame with a single atom"
    ):
        choose("isolated-atoms", elements=(1, 6, 8))


def test_an_element_that_only_validates_has_no_reference() -> None:
    with pytest.raises(
        DataError, match=r"Si occurs in the data that validate or test, but not"
    ):
        choose("least-squares", elements=(1, 8, 14))


def test_an_element_that_a_head_lacks_is_named() -> None:
    with pytest.raises(DataError, match=r"no reference for N in head:qm7x; choose"):
        choose("head:qm7x", elements=(1, 7))


def test_a_head_with_relative_energies_has_no_references_to_give() -> None:
    with pytest.raises(DataError, match=r"'relative' has no references, its energies"):
        choose("head:relative")


def test_references_cannot_be_fitted_to_nothing() -> None:
    with pytest.raises(DataError, match=r"no energies to fit .* --references none"):
        choose("least-squares", has_energies=False)


def test_the_table_shows_each_element_and_where_it_comes_from() -> None:
    text = reference_table(choose(), {1: 20, 8: 10})
    assert "energies of the free atoms in the data" in text
    assert "O       -2041.0000 eV   in 10 systems" in text


def test_the_table_shows_that_there_are_none() -> None:
    assert "–   in 20 systems" in reference_table(choose("none"), {1: 20})
