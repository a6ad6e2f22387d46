from __future__ import annotations

from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule, nanotube

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.head_choice import (
    HeadChoice,
    check_elements,
    check_name,
    choose_head,
    force_kind,
)
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.models.jmp import JMPModel
from toys.models import (
    ISOLATED,
    ORGANIC,
    PERIODIC,
    TINY,
    build,
    published_model,
    smooth_model,
    spec,
)


def choose(model: JMPModel, atoms: Atoms, **asked: object) -> HeadChoice:
    return choose_head(model, atoms, classify(atoms, find_bonds(atoms)), **asked)


def chosen(model: JMPModel, atoms: Atoms) -> str:
    return choose(model, atoms).spec.name


def water_box(length: float = 3.1) -> Atoms:
    atoms = molecule("H2O")
    atoms.set_cell([length] * 3)
    atoms.pbc = True
    return atoms * (2, 2, 2)


def test_the_head_follows_from_the_kind_of_structure() -> None:
    model = smooth_model()
    assert chosen(model, molecule("CH3OH")) == "organic"
    assert chosen(model, fcc111("Cu", (1, 1, 3), vacuum=8)) == "slabs"
    assert chosen(model, bulk("Cu")) == "crystals"


def test_a_periodic_water_box_never_lands_on_a_slab_head() -> None:
    assert chosen(smooth_model(), water_box()) == "organic"
    only_slabs = build(TINY, spec("slabs", domain="surface"))
    with pytest.raises(UnsupportedSystemError, match="molecule of H O in a periodic"):
        choose(only_slabs, water_box())


def test_the_head_follows_from_the_elements() -> None:
    choice = choose(smooth_model(), Atoms("HF", [[0, 0, 0], [0, 0, 0.92]]))
    assert choice.spec.name == "radicals"
    assert choice.is_automatic
    assert choice.others == ()


def test_the_default_head_breaks_ties_and_the_others_are_told() -> None:
    assert choose(smooth_model(), molecule("H2O")).others == ("radicals",)


def test_an_ambiguous_structure_is_an_error_that_lists_the_heads() -> None:
    model = build(TINY, spec("first", elements=ORGANIC), spec("second"))
    expected = (
        r"molecule of H O.*several heads of toy cover: first, second.*head=.*"
        r"'first' \(molecule; H C N O; first-DFT\), "
        r"'second' \(molecule; elements not recorded; second-DFT\)"
    )
    with pytest.raises(UnsupportedSystemError, match=expected):
        choose(model, molecule("H2O"))
    both_default = build(
        TINY, spec("first", is_default=True), spec("second", is_default=True)
    )
    with pytest.raises(UnsupportedSystemError, match="several heads"):
        choose(both_default, molecule("H2O"))


def test_a_crystal_takes_a_slab_head_only_when_it_is_named() -> None:
    model = published_model()
    with pytest.raises(
        UnsupportedSystemError,
        match=r"bulk of Cu.*no head of toy-published.*'oc20' \(surf",
    ):
        choose(model, bulk("Cu"))
    choice = choose(model, bulk("Cu"), name="oc20")
    assert (choice.spec.name, choice.is_automatic) == ("oc20", False)


def test_a_wire_needs_a_named_head() -> None:
    tube = nanotube(4, 4, length=1, vacuum=5)
    with pytest.raises(UnsupportedSystemError, match="a wire of C"):
        choose(smooth_model(), tube)
    assert choose(smooth_model(), tube, name="organic").kind == "wire"


def test_a_head_that_would_lose_the_periodicity_is_an_error() -> None:
    model = published_model()
    expected = "'ani1x' ignores periodicity.*cutoff 5 angstrom.*pbc = False"
    with pytest.raises(UnsupportedSystemError, match=expected):
        choose(model, water_box())
    with pytest.raises(UnsupportedSystemError, match=expected):
        choose(model, water_box(), name="ani1x")
    far_apart = molecule("H2O")
    far_apart.set_cell([9.0] * 3)
    far_apart.pbc = True
    assert chosen(model, far_apart) == "ani1x"


def test_a_head_that_is_always_periodic_needs_a_cell() -> None:
    slab = fcc111("Cu", (1, 1, 3))
    expected = r"'oc20' repeats.*cell vector 2 is zero.*center\(vacuum=10, axis=2\)"
    with pytest.raises(UnsupportedSystemError, match=expected):
        choose(published_model(), slab)
    with pytest.raises(UnsupportedSystemError, match="cell vector 0 is zero"):
        choose(published_model(), molecule("H2O"), name="oc20")
    slab.center(vacuum=10, axis=2)
    assert chosen(published_model(), slab) == "oc20"


def test_an_element_that_no_head_knows_is_named() -> None:
    expected = (
        r"atom 1 is Og \(118\), which no head of toy was trained on.*jmp-md models"
    )
    with pytest.raises(UnsupportedSystemError, match=expected):
        check_elements(smooth_model(), Atoms("HOg"))


def test_an_element_that_the_named_head_does_not_know_is_named() -> None:
    expected = r"atom 2 is Cl \(17\), which head 'organic' of toy was not trained on"
    with pytest.raises(UnsupportedSystemError, match=expected):
        check_elements(smooth_model(), Atoms("CHCl"), "organic")
    check_elements(smooth_model(), Atoms("CHCl"), "crystals")


def test_elements_may_not_be_spread_over_heads() -> None:
    model = build(TINY, spec("a", elements=(1, 6)), spec("b", elements=(1, 8)))
    with pytest.raises(UnsupportedSystemError, match=r"no single head.*all of C O"):
        check_elements(model, Atoms("CO"))


def test_elements_without_record_are_those_with_a_reference_or_all() -> None:
    model = build(TINY, spec("a", references={1: -13.0, 8: -2000.0}))
    with pytest.raises(UnsupportedSystemError, match=r"atom 0 is C \(6\)"):
        check_elements(model, Atoms("C"))
    check_elements(published_model(), Atoms("Og"))
    with pytest.raises(UnsupportedSystemError, match=r"atom 0 is X \(0\)"):
        check_elements(published_model(), Atoms("X"))


@pytest.mark.parametrize("name", [None, "a"])
def test_an_element_without_reference_beside_some_with_is_an_error(name) -> None:
    model = build(TINY, spec("a", elements=ORGANIC, references={1: -13.0, 6: -1e3}))
    choose(model, molecule("CH4"), name=name)
    expected = "atom 0 is N, for which head 'a' of toy has no reference.*fit-references"
    with pytest.raises(UnsupportedSystemError, match=expected):
        choose(model, molecule("NH3"), name=name)


def test_an_unknown_head_is_an_error_with_a_proposal() -> None:
    with pytest.raises(
        ArgumentError, match=r"'orgnic'; toy has.*did you mean 'organic'"
    ):
        check_name(smooth_model(), "orgnic")


def test_forces_default_to_what_the_head_was_trained_for() -> None:
    trained_direct = published_model().heads["oc20"]
    assert force_kind(trained_direct, None) == "direct"
    assert force_kind(trained_direct, "gradient") == "gradient"
    both = replace(spec("a", graph=PERIODIC), has_direct_forces=True)
    assert force_kind(both, None) == "gradient"
    with pytest.raises(
        ArgumentError, match=r"'a' has no direct force head.*'gradient'"
    ):
        force_kind(spec("a", graph=ISOLATED), "direct")
