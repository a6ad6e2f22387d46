"""``jmp-train data`` through ``main()``: stores, reports, checks, exit codes, help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from jmp_train import cli
from jmp_train.cli.data import DATA_VERBS
from jmp_train.data.families import FAMILIES
from jmp_train.data.source import Download, FamilyOptions
from jmp_train.data.store import Store
from range_server import serve


def data(*words: object) -> int:
    return cli.main(["data", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rattled crystals of copper with energies and forces."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(40):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += generator.normal(0, 0.05, (4, 3))
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    path = tmp_path_factory.mktemp("data") / "copper.extxyz"
    ase.io.write(path, found)
    return path


@pytest.fixture(scope="module")
def stores(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores")
    assert data("prepare", "user", frames, "--out", out, "--processes", 1) == 0
    return out


@pytest.mark.parametrize("verb", DATA_VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys) -> None:
    assert data(verb, "--help") == 0
    assert f"Example: jmp-train data {verb}" in capsys.readouterr().out


def test_help_lists_the_verbs(capsys) -> None:
    assert data("--help") == 0
    text = capsys.readouterr().out
    assert all(line in text for _, line in DATA_VERBS.values())


@pytest.mark.parametrize("verb", DATA_VERBS)
def test_help_imports_neither_torch_nor_lmdb(verb) -> None:
    program = (
        f"import sys; from jmp_train.cli import main; main(['data', {verb!r}, '-h']); "
        "sys.exit(str({'torch', 'lmdb'} & set(sys.modules)) "
        "if {'torch', 'lmdb'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_prepare_writes_stores_and_shows_the_report(frames, tmp_path, capsys) -> None:
    words = ("--variant", "cu", "--level-of-theory", "EMT", "--processes", 1)
    assert data("prepare", "user", frames, "--out", tmp_path, *words) == 0
    text = capsys.readouterr()
    assert "theory   EMT" in text.out
    assert f"report   {tmp_path / 'cu-report'}" in text.out
    sizes = [len(Store(tmp_path / f"cu-{s}")) for s in ("train", "val", "test")]
    assert sum(sizes) == 40
    assert (tmp_path / "cu-report" / "report.png").is_file()


def test_an_unknown_set_lists_those_there_are(tmp_path, capsys) -> None:
    assert data("prepare", "rmd18", tmp_path, "--out", tmp_path) == 2
    text = capsys.readouterr().err
    assert "unknown set 'rmd18'; choose from ani1x, transition1x, qm9" in text
    assert "did you mean 'rmd17'?" in text


def test_a_source_that_is_not_there_says_what_it_must_be(tmp_path, capsys) -> None:
    assert data("prepare", "qm9", tmp_path / "none", "--out", tmp_path / "out") == 2
    text = capsys.readouterr().err
    assert "none; SOURCE must be a folder with gdb9.sdf" in text
    assert not (tmp_path / "out").exists()


def test_an_option_without_effect_is_refused(frames, tmp_path, capsys) -> None:
    words = ("--out", tmp_path / "out", "--legacy-units")
    assert data("prepare", "user", frames, *words) == 2
    text = capsys.readouterr().err
    assert "legacy-units has no effect on set 'user', which has the options" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_options_that_there_are(family) -> None:
    names = {field.name for field in fields(FamilyOptions)}
    assert set(FAMILIES[family].options) <= names


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_an_archive_is_to_be_unpacked_first(tmp_path, is_folder, capsys) -> None:
    archive = tmp_path / "rmd17.tar.bz2"
    archive.write_bytes(b"any")
    source = tmp_path if is_folder else archive
    assert data("prepare", "rmd17", source, "--out", tmp_path / "out") == 2
    assert f"{archive} is an archive; unpack it and" in capsys.readouterr().err


def test_a_missing_data_set_names_it_and_what_is_kept(tmp_path, capsys) -> None:
    words = ("--out", tmp_path / "out", "--variant", "pbe", "--processes", 1)
    assert data("prepare", "nano", tmp_path, *words) == 2
    text = capsys.readouterr().err
    assert "mlearn" in text
    assert "0 of 2 parts are finished and kept" in text


def test_check_of_a_folder_looks_at_all_its_stores(stores, capsys) -> None:
    assert data("check", stores) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["intact"] * 3


def test_check_of_a_damaged_store_names_the_fault_and_fails(
    frames, tmp_path, capsys
) -> None:
    assert data("prepare", "user", frames, "--out", tmp_path, "--processes", 1) == 0
    path = tmp_path / "copper-train"
    np.save(path / "n_pairs.npy", np.array(Store(path).n_pairs) + 1)
    capsys.readouterr()
    assert data("check", path) == 2
    text = capsys.readouterr().out
    assert f"damaged   {path}: 1 faults; prepare it again" in text
    assert "n_pairs.npy differs" in text


def test_check_of_no_store_is_an_error(tmp_path, capsys) -> None:
    assert data("check", tmp_path) == 2
    assert "there is no store" in capsys.readouterr().err


def test_stats_prints_what_it_measures_and_compares(stores, capsys) -> None:
    assert data("stats", stores / "copper-train") == 0
    text = capsys.readouterr().out
    assert "elements  Cu" in text
    assert "sigma_F" in text
    assert text.endswith("the header says the same\n")


def test_stats_that_differ_from_the_header_fail(stores, tmp_path, capsys) -> None:
    path = tmp_path / "copper-val"
    path.mkdir()
    for file in (stores / "copper-val").iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    header = path / "header.json"
    text = header.read_text(encoding="utf-8")
    header.write_text(text.replace('"mean_atoms": 4.0', '"mean_atoms": 5.0'))
    assert data("stats", path) == 2
    assert "mean_atoms is 4, and the header says 5" in capsys.readouterr().out


def test_download_fetches_and_shows_the_licence(tmp_path, monkeypatch, capsys) -> None:
    with serve(b"content" * 1000) as server:
        files = (Download(url=server.url, file="ani.h5"),)
        family = replace(FAMILIES["ani1x"], downloads=files)
        monkeypatch.setitem(FAMILIES, "ani1x", family)
        assert data("download", "ani1x", "--to", tmp_path) == 0
        text = capsys.readouterr().out
        assert "licence  CC0" in text
        assert "downloaded" in text
        assert (tmp_path / "ani.h5").read_bytes() == b"content" * 1000
        assert data("download", "ani1x", "--to", tmp_path) == 0
        assert "was there" in capsys.readouterr().out
        assert len(server.asked) == 1


def test_download_can_list_the_files_without_fetching_any(tmp_path, capsys) -> None:
    assert data("download", "oc22", "--list") == 0
    text = capsys.readouterr().out
    assert "licence  CC-BY-4.0" in text
    assert "s2ef_total_train_val_test_lmdbs.tar.gz" in text
    assert " md5 " in text


def test_download_needs_a_folder(capsys) -> None:
    assert data("download", "oc22") == 2
    assert "say where the files are to go" in capsys.readouterr().err


def test_sample_and_label_make_a_file_with_labels(frames, tmp_path, capsys) -> None:
    new, out = tmp_path / "new.xyz", tmp_path / "deep" / "labelled.xyz"
    assert data("sample", frames, "--n", 2, "--out", new, "--processes", 2) == 0
    assert data("label", new, "--calculator", "emt", "--out", out) == 0
    assert "80 labelled (0 known before), 0 failed" in capsys.readouterr().out
    labelled = ase.io.read(out, ":")
    assert len(labelled) == 80
    assert all("REF_forces" in atoms.arrays for atoms in labelled)


@pytest.mark.parametrize("verb", ["sample", "label"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.traj", "ends in .xyz or .extxyz"),
        ("in.xyz", "the file that is read"),
        ("old.xyz", "exists and"),
    ],
)
def test_sample_and_label_replace_nothing(
    verb, name, text, frames, tmp_path, capsys
) -> None:
    given = tmp_path / "in.xyz"
    given.write_bytes(frames.read_bytes())
    (tmp_path / "old.xyz").write_text("precious")
    out = tmp_path / name
    before = out.read_bytes() if out.exists() else None
    assert data(verb, given, "--calculator", "emt", "--out", out) == 2
    assert text in capsys.readouterr().err
    assert (out.read_bytes() if out.exists() else None) == before


def test_sample_replaces_a_file_on_request(frames, tmp_path) -> None:
    out = tmp_path / "old.xyz"
    out.write_text("old")
    assert data("sample", frames, "--n", 1, "--out", out, "--overwrite") == 0
    assert len(ase.io.read(out, ":")) == 40


def test_sample_lists_what_gave_too_few_and_says_so(tmp_path, capsys) -> None:
    given, out = tmp_path / "in.xyz", tmp_path / "new.xyz"
    ase.io.write(given, [molecule("H2O"), Atoms("Ar")])
    assert data("sample", given, "--kind", "stretch", "--out", out) == 3
    told = capsys.readouterr()
    assert "10 geometries (stretch) of 2 structures" in told.out
    assert "structure 1: Ar has no bond that divides" in told.err


def test_sample_that_makes_nothing_leaves_no_file(tmp_path, capsys) -> None:
    given, out = tmp_path / "in.xyz", tmp_path / "new.xyz"
    ase.io.write(given, molecule("H2O"))
    assert data("sample", given, "--kind", "strain", "--out", out) == 2
    assert "no geometries were made; structure 0" in capsys.readouterr().err
    assert not out.exists()


def test_files_that_may_run_code_are_not_read(tmp_path, capsys) -> None:
    given = tmp_path / "in.py"
    given.write_text("raise SystemExit(9)\n")
    out = tmp_path / "out.xyz"
    assert data("label", given, "--calculator", "emt", "--out", out) == 2
    assert "may run code" in capsys.readouterr().err


def test_conformers_lists_what_failed_and_keeps_the_rest(tmp_path, capsys) -> None:
    pytest.importorskip("rdkit", reason="needs the extra rdkit")
    listed, out = tmp_path / "list.smi", tmp_path / "start.xyz"
    listed.write_text("CCO\nC1CC\n")
    assert data("conformers", listed, "--n", 3, "--out", out) == 3
    printed = capsys.readouterr()
    assert "of 2 molecules in" in printed.out
    assert "C1CC: RDKit cannot read the SMILES 'C1CC'" in printed.err
    found = ase.io.read(out, ":")
    assert {atoms.get_chemical_formula() for atoms in found} == {"C2H6O"}


def test_conformers_that_all_fail_leave_no_file(tmp_path, capsys) -> None:
    pytest.importorskip("rdkit", reason="needs the extra rdkit")
    listed, out = tmp_path / "list.smi", tmp_path / "start.xyz"
    listed.write_text("C1CC\n")
    assert data("conformers", listed, "--out", out) == 2
    assert "no molecule was made; C1CC: RDKit cannot" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("verb", ["conformers", "make"])
def test_verbs_that_need_rdkit_say_how_to_get_it(
    verb, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    listed = tmp_path / "list.smi"
    listed.write_text("CCO\n")
    out = tmp_path / "out.xyz"
    words = {"conformers": [listed, "--out", out], "make": ["xtb", "--out", out]}
    assert data(verb, *words[verb]) == 2
    assert "run: pip install 'jmp-calc[rdkit]'" in capsys.readouterr().err


def test_an_unknown_recipe_of_data_is_an_error_with_a_suggestion(
    tmp_path, capsys
) -> None:
    assert data("make", "xbt", "--out", tmp_path) == 2
    assert "choose from xtb; did you mean 'xtb'" in capsys.readouterr().err


def test_sample_takes_molecules_from_smiles_to_complexes(tmp_path, capsys) -> None:
    pytest.importorskip("rdkit", reason="needs the extra rdkit")
    listed, start, out = (tmp_path / name for name in ("a.smi", "a.xyz", "b.xyz"))
    listed.write_text("O\n")
    assert data("conformers", listed, "--out", start) == 0
    words = ("--kind", "complex", "--same", "--molecules", 4, "--n", 15)
    contact = ("--contact", 0.7, 0.8, "--max-atoms", 9)
    assert data("sample", start, *words, *contact, "--out", out) == 0
    found = ase.io.read(out, ":")
    assert {len(atoms) for atoms in found} == {6, 9}
    assert all(0.7 <= atoms.info["contact"] <= 0.8 for atoms in found)
    field = "jmp_train.data.rdkit_force_field:force_field"
    relax = ("--kind", "relax", "--n", 1, "--calculator", field)
    last = tmp_path / "c.xyz"
    assert data("sample", out, *relax, "--out", last) == 0
    assert all(atoms.info["is_relaxed"] for atoms in ase.io.read(last, ":"))
