"""A recipe from SMILES to stores, with a cheap calculator."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from jmp_calc.calculator.named import CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data import making
from jmp_train.data.exclusion import EXCLUDED_FORMULAS
from jmp_train.data.families.xtb import FAMILY, MAX_FORCE
from jmp_train.data.growing_file import GrowingFile
from jmp_train.data.kinds.geometry import SMILES
from jmp_train.data.making import geometries_file, labelled_file, make_data
from jmp_train.data.making_options import MakingOptions
from jmp_train.data.molecule_split import split_of_molecules
from jmp_train.data.recipes.steps import Choice, DataRecipe, Step
from jmp_train.data.recipes.xtb import FIELD
from jmp_train.data.sample import hill_formula
from jmp_train.data.sampling_settings import SamplingSettings
from jmp_train.data.source import FamilyOptions, Record, Skipped

pytest.importorskip("rdkit", reason="needs the extra rdkit")

N_STARTS = 10 + 9 + 9 + 11
"""Molecules of the list, and starting structures of the steps; two small molecules are
partners of held-out ones as well."""
EMT = CalculatorChoice(name="emt", options={})
STEPS = (
    Step(
        name="relaxed",
        origin="near equilibrium",
        choice=Choice(key="is_lowest"),
        settings=SamplingSettings(kind="relax", n=2, seed=1),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="rattled",
        origin="contact",
        choice=Choice(step="relaxed", key="is_relaxed"),
        settings=SamplingSettings(n=3, seed=2),
        task="xtb",
    ),
    Step(
        name="pairs",
        origin="cluster",
        choice=Choice(step="relaxed", key="is_relaxed"),
        settings=SamplingSettings(kind="complex", n=2, seed=3),
        task="xtb_reactions",
        by_part=True,
    ),
)


@pytest.fixture
def recipe(tmp_path) -> DataRecipe:
    smiles = tmp_path / "list.smi"
    smiles.write_text("O\nN\nC=C\nCC(=O)N\nC1CC\nCCCO\nCC(C)=O\nCCN\nCNC\nCCC\n")
    return DataRecipe(
        name="toy", smiles=smiles, n_conformers=2, steps=STEPS, labels=EMT
    )


def silent(*_: object) -> None:
    """Show nothing."""


def made(recipe: DataRecipe, out: Path, **options):
    return make_data(recipe, out, MakingOptions(**options), silent)


def frames(path: Path):
    return ase.io.read(path, ":")


def test_everything_is_made_labelled_and_reported(recipe, tmp_path):
    out = tmp_path / "made"
    report = made(recipe, out)
    assert report["conformers"]["molecules"] == 10
    assert report["conformers"]["failed"] == 1
    why = geometries_file(out, "conformers").with_suffix(".failed.tsv").read_text()
    assert why.startswith("4\tRDKit cannot read")
    assert report["rattled"]["made"] == 27
    assert report["rattled, labels"]["labelled"] == 27
    labelled = frames(labelled_file(out, "xtb", "rattled"))
    assert {atoms.info["origin"] for atoms in labelled} == {"contact"}
    assert {atoms.info["level_of_theory"] for atoms in labelled} == {"emt"}
    assert json.loads((out / "made.json").read_text()) == report


def test_what_is_there_is_not_made_again(recipe, tmp_path, monkeypatch):
    out = tmp_path / "made"

    def stop(*_: object, **__: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making, "label_structures", stop)
        with pytest.raises(KeyboardInterrupt):
            made(recipe, out)
    first = {p.name: os.stat(p).st_mtime_ns for p in (out / "geometries").iterdir()}
    made(recipe, out)
    again = {p.name: os.stat(p).st_mtime_ns for p in (out / "geometries").iterdir()}
    assert len(first) == 8
    assert again == first
    assert len(frames(labelled_file(out, "xtb", "relaxed"))) == 9


@pytest.mark.parametrize("n_before", [2, 11, 30, 36])
def test_a_stage_that_was_stopped_goes_on_with_the_next_structure(
    recipe, tmp_path, monkeypatch, n_before
):
    """Conformers end after 10 additions, relaxed ones after 19, rattled after 28."""
    made(recipe, tmp_path / "whole")
    add, n_added = GrowingFile.add, 0

    def stopping(self, geometries, reason):
        nonlocal n_added
        if n_added == n_before:
            raise KeyboardInterrupt
        n_added += 1
        add(self, geometries, reason)

    with monkeypatch.context() as patched:
        patched.setattr(GrowingFile, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            made(recipe, tmp_path / "parts")
    n_added = 0

    def counting(self, geometries, reason):
        nonlocal n_added
        n_added += 1
        add(self, geometries, reason)

    monkeypatch.setattr(GrowingFile, "add", counting)
    made(recipe, tmp_path / "parts")
    assert n_before + n_added == N_STARTS
    for step in ("conformers", "relaxed", "rattled", "pairs"):
        whole, parts = (
            geometries_file(tmp_path / name, step).read_text()
            for name in ("whole", "parts")
        )
        assert whole == parts


def test_a_folder_of_another_seed_or_share_is_refused(recipe, tmp_path):
    out = tmp_path / "made"
    made(recipe, out)
    with pytest.raises(ArgumentError, match="other seed, share; give another"):
        made(recipe, out, seed=1, share=0.5)
    other = replace(recipe, steps=STEPS[:1])
    with pytest.raises(ArgumentError, match="made with other steps"):
        made(other, out)


def test_the_seed_and_nothing_else_decides(recipe, tmp_path):
    texts = []
    for name, options in {
        "one": {"seed": 0},
        "two": {"seed": 0, "processes": 2},
        "other": {"seed": 1},
    }.items():
        made(recipe, tmp_path / name, **options)
        texts.append(geometries_file(tmp_path / name, "pairs").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_the_seed_changes_the_steps_and_not_only_the_conformers(
    recipe, tmp_path, monkeypatch
):
    embedded = making.conformers
    monkeypatch.setattr(
        making, "conformers", lambda smiles, n, seed: embedded(smiles, n, seed=1)
    )
    starts, ends = [], []
    for seed in (0, 1):
        made(recipe, tmp_path / str(seed), seed=seed)
        for found, step in ((starts, "relaxed"), (ends, "rattled")):
            found.append(geometries_file(tmp_path / str(seed), step).read_text())
    assert starts[0] == starts[1]
    assert ends[0] != ends[1]


def test_a_share_keeps_small_molecules_and_some_others(recipe, tmp_path):
    made(recipe, tmp_path / "few", share=1e-6)
    starts = frames(geometries_file(tmp_path / "few", "conformers"))
    assert {atoms.info["group"] for atoms in starts} == {"O", "N", "C=C"}


def test_complexes_are_of_molecules_of_one_part(recipe, tmp_path, monkeypatch):
    parts = {"O": "train", "N": "train", "CCC": "test", "CCCO": "val", "CNC": "val"}

    def part(group: str) -> str:
        found = {parts.get(each, "train") for each in group.split(".")}
        return "test" if "test" in found else "val" if "val" in found else "train"

    monkeypatch.setattr(making, "split_of_molecules", part)
    made(recipe, tmp_path / "made")
    small = {"O", "N", "C=C"}
    seen = set()
    for atoms in frames(geometries_file(tmp_path / "made", "pairs")):
        found = {
            parts.get(each, "train")
            for each in atoms.info["group"].split(".")
            if each not in small
        }
        assert len(found) <= 1
        seen |= found
    assert seen == {"train", "val", "test"}


@pytest.mark.parametrize(("option", "value"), [("share", 0.0), ("seed", -1)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(ArgumentError, match=f"{option}.*give a share above 0 and"):
        MakingOptions(**{option: value})


def test_a_step_that_makes_nothing_is_an_error_with_the_reason(recipe, tmp_path):
    settings = SamplingSettings(kind="stretch", n=1)
    bad = Step(
        name="none", origin="", choice=Choice(groups=("c1ccccc1",)), settings=settings
    )
    with pytest.raises(DataError, match=r"no geometries were made for .*none\.xyz"):
        made(replace(recipe, steps=(bad,)), tmp_path / "made")


# -- stores --------------------------------------------------------------------------


def written(folder: Path, structures) -> list[Record | Skipped]:
    path = folder / "labelled" / "xtb" / "steps.extxyz"
    path.parent.mkdir(parents=True)
    ase.io.write(path, structures)
    (source,) = FAMILY.open(folder, FamilyOptions())
    return [entry for part in source.parts() for entry in source.read(part)]


def labelled(name: str, *, group: str, force: float = 1.0):
    atoms = molecule(name)
    forces = np.zeros((len(atoms), 3))
    forces[0, 0] = force
    atoms.arrays["REF_forces"] = forces
    atoms.info |= {"REF_energy": -5.0, "group": group, "origin": "hot", SMILES: group}
    return atoms


def test_structures_keep_their_molecule_origin_and_labels(tmp_path):
    (record,) = written(tmp_path, [labelled("CH3OH", group="CO")])
    assert isinstance(record, Record)
    assert record.sample.name == "hot/steps/0"
    assert (record.sample.group, record.sample.source) == ("CO", "xtb, hot")
    assert record.sample.energy == -5.0
    assert record.sample.forces[0, 0] == 1.0


def test_parts_are_those_of_the_molecule(tmp_path):
    groups = [f"C{'C' * n}O" for n in range(3, 150)]
    records = written(tmp_path, [labelled("CH3OH", group=group) for group in groups])
    assert [r.split for r in records] == [split_of_molecules(g) for g in groups]
    assert set(Counter(r.split for r in records)) == {"train", "val", "test"}


def test_forces_that_mean_nothing_are_left_out(tmp_path):
    found = written(
        tmp_path,
        [
            labelled("CH3OH", group="CO", force=f)
            for f in (MAX_FORCE - 1, MAX_FORCE + 1)
        ],
    )
    assert isinstance(found[0], Record)
    assert found[1] == Skipped(where="hot/steps/1", reason="force above 30 eV/Å")


@pytest.mark.parametrize("name", ["C6H6", "CH3CH2OH", "CH3OCH3"])
def test_molecules_of_rmd17_are_left_out_wherever_they_come_from(tmp_path, name):
    """Also beside another molecule, and as the product of a reaction."""
    alone = labelled(name, group="CC.O")
    both = labelled(name, group="CC.O") + molecule("H2O")
    both.positions[-3:] += 6.0
    both.info = alone.info
    found = written(tmp_path, [alone, both])
    assert [type(entry) for entry in found] == [Skipped, Skipped]
    assert "a molecule of rMD17" in found[0].reason


def test_what_was_made_holds_no_formula_of_rmd17(recipe, tmp_path):
    """Ethene and water together have the formula of ethanol."""
    made(recipe, tmp_path)
    sources = FAMILY.open(tmp_path, FamilyOptions())
    entries = [e for s in sources for part in s.parts() for e in s.read(part)]
    kept = [e.sample for e in entries if isinstance(e, Record)]
    skipped = [e for e in entries if isinstance(e, Skipped)]
    assert len(kept) > 50
    assert not {hill_formula(s.numbers) for s in kept} & EXCLUDED_FORMULAS.keys()
    assert len(kept) + len(skipped) == len(entries)


def test_a_structure_without_labels_is_an_error(tmp_path):
    atoms = labelled("CH3OH", group="CO")
    del atoms.info["REF_energy"]
    with pytest.raises(DataError, match=r"frame 0 of .*steps.extxyz has no 'REF_ener"):
        written(tmp_path, [atoms])


def test_a_folder_without_labelled_files_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="make them with 'jmp-train data make xtb"):
        FAMILY.open(tmp_path, FamilyOptions())


def test_an_unknown_task_is_an_error_with_a_suggestion(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'xtb_reactions'"):
        FAMILY.open(tmp_path, FamilyOptions(variant="xtb_reaction"))
