"""The report on a prepared set: its text, its numbers, its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols
from matplotlib.figure import Figure

from jmp_train.data.sample import Sample
from jmp_train.data.store import Store
from jmp_train.prepare import PreparedSet, prepare
from jmp_train.prepare.periodic_table import draw_elements, table_place
from jmp_train.prepare.picture import bin_edges, draw_set, element_shares
from jmp_train.prepare.report import report_text
from jmp_train.prepare.summary import distributions, train_references
from toys.toy_sources import ToySource
from toys.training import toy_crystals, toy_molecules, write_store


@pytest.fixture(scope="module")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    source = ToySource(notes=("energies are called REF_energy",))
    (found,) = prepare([source], tmp_path_factory.mktemp("stores"), processes=1)
    return found


def test_the_text_says_what_the_set_is_and_what_was_skipped(toy_set) -> None:
    text = (toy_set.report / "report.txt").read_text(encoding="utf-8")
    assert "set      toy: Toy molecules" in text
    (row,) = [line for line in text.splitlines() if line.startswith("toy-train  ")][:1]
    assert row.split() == ["toy-train", "12", "4.3", "all", "all", "–", "–"]
    assert "  H 24  C 12  N 4  O 12" in text
    assert "skipped 4 systems (each is listed in skipped.tsv)" in text
    assert "         4  not converged" in text
    assert "note: energies are called REF_energy" in text
    assert "warning" not in text


def test_columns_without_any_value_are_left_out(toy_set) -> None:
    text = (toy_set.report / "report.txt").read_text(encoding="utf-8")
    assert "sigma_F" in text
    assert "rms stress" not in text


def test_every_skipped_system_is_listed_with_its_reason(toy_set) -> None:
    lines = (toy_set.report / "skipped.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "where\twhy"
    assert lines[1:] == [f"p{number}/6\tnot converged" for number in range(4)]


def test_the_json_has_counts_and_quantiles_of_every_part(toy_set) -> None:
    facts = json.loads((toy_set.report / "report.json").read_text(encoding="utf-8"))
    assert list(facts["parts"]) == ["train", "val", "test"]
    train = facts["parts"]["train"]
    assert train["labels"]["forces"] == train["n_systems"] == 12
    store = Store(toy_set.stores[0].path)
    components = np.concatenate([sample.forces.ravel() for sample in store])
    low, *_, high = train["quantiles"]["force_component_eV_per_A"]
    assert (low, high) == (components.min(), components.max())


def test_the_picture_is_a_png(toy_set) -> None:
    assert (toy_set.report / "report.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_doubtful_units_are_a_warning_in_the_report(toy_set) -> None:
    header = toy_set.stores[0].header
    large = header["statistics"] | {"force_rms": 500.0}
    store = replace(toy_set.stores[0], header=header | {"statistics": large})
    doubtful = replace(toy_set, stores=(store,))
    parts = {"train": distributions(Store(store.path), {})}
    assert "warning: task 'toy': the root mean square" in report_text(doubtful, parts)


def rich(sample: Sample, number: int) -> Sample:
    stress = np.diag([1e-3 * number, 0.0, 0.0])
    return replace(sample, stress=stress, targets={"gap": 0.1 * number})


def test_energies_are_referenced_and_per_atom(tmp_path) -> None:
    samples = toy_molecules(8)
    path = write_store(tmp_path / "toy-train", samples)
    store = Store(path)
    references = train_references({"train": store.header})
    found = distributions(store, references)
    expected = [
        (s.energy - sum(references[z] for z in s.numbers.tolist())) / s.n_atoms
        for s in samples
    ]
    assert found.energy == pytest.approx(expected)
    assert found.n_atoms.tolist() == [s.n_atoms for s in samples]


def test_large_stores_are_looked_at_evenly(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jmp_train.prepare.summary.MOST_SYSTEMS", 4)
    path = write_store(tmp_path / "toy-train", toy_molecules(10))
    store = Store(path)
    found = distributions(store, {})
    assert found.n_read == 4
    assert len(found.n_atoms) == 10
    picked = [store[index].energy / store[index].n_atoms for index in (0, 3, 6, 9)]
    assert found.energy == pytest.approx(picked)


def test_a_set_of_targets_and_stress_alone_can_be_drawn(tmp_path) -> None:
    samples = [
        replace(rich(sample, number), energy=None, forces=None)
        for number, sample in enumerate(toy_crystals(5))
    ]
    path = write_store(tmp_path / "toy-train", samples)
    store = Store(path)
    parts = {"train": distributions(store, {})}
    picture = tmp_path / "picture.pdf"
    draw_set(parts, {"train": store.header}, picture, title="toys")
    assert picture.read_bytes().startswith(b"%PDF")


def test_many_elements_become_a_periodic_table(tmp_path) -> None:
    samples = [
        replace(sample, numbers=np.full(sample.n_atoms, 20 + number), forces=None)
        for number, sample in enumerate(toy_molecules(14))
    ]
    path = write_store(tmp_path / "toy-train", samples)
    store = Store(path)
    parts = {"train": distributions(store, {})}
    picture = draw_set(parts, {"train": store.header}, tmp_path / "a.svg", title="toys")
    assert "systems with the element (%)" in texts_of(picture)


def texts_of(picture: Path) -> str:
    """The comments of an SVG, in which matplotlib repeats all texts."""
    return picture.read_text(encoding="utf-8")


def test_the_bins_hold_all_but_the_tails_of_many_values() -> None:
    values = np.concatenate([np.linspace(0, 1, 5000), [1e6]])
    edges = bin_edges([values])
    assert edges[-1] < 1.1
    assert bin_edges([values[-100:]])[-1] == 1e6


def test_equal_values_have_bins_around_them() -> None:
    edges = bin_edges([np.full(5, -3.0)])
    assert edges[0] < -3.0 < edges[-1]


def test_shares_of_elements_count_the_systems_of_all_parts() -> None:
    headers = {
        "train": {"n_systems": 3, "element_systems": {"1": 3}},
        "val": {"n_systems": 1, "element_systems": {"8": 1}},
    }
    assert element_shares(headers) == {1: 75.0, 8: 25.0}


@pytest.mark.parametrize(
    ("symbol", "place"),
    [
        ("H", (0, 0)),
        ("He", (17, 0)),
        ("C", (13, 1)),
        ("Sc", (2, 3)),
        ("La", (2, 7.4)),
        ("Lu", (16, 7.4)),
        ("Hf", (3, 5)),
        ("Au", (10, 5)),
        ("U", (5, 8.4)),
        ("Og", (17, 6)),
    ],
)
def test_elements_have_the_places_of_the_periodic_table(symbol, place) -> None:
    assert table_place(chemical_symbols.index(symbol)) == pytest.approx(place)


def test_no_two_elements_share_a_place() -> None:
    assert len({table_place(z) for z in range(1, 119)}) == 118


def test_an_element_that_is_rare_still_has_a_colour() -> None:
    axes = Figure().add_subplot()
    draw_elements(axes, {1: 100.0, 92: 0.001})
    faces = {patch.get_xy(): patch.get_facecolor() for patch in axes.patches}
    white = (1.0, 1.0, 1.0, 1.0)
    assert faces[table_place(92)] != white
    assert faces[table_place(6)] == white
