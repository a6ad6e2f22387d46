"""``jmp-md models`` through ``main()``, on a local server and tiny weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from safetensors.torch import load_file, save_file

from jmp_calc.calculator import JMPCalculator
from jmp_calc.cli import main
from jmp_calc.models.config import NANO, GraphRules, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import METADATA_KEY, read_header, save_weights
from jmp_calc.pretrained import PRETRAINED, load_model
from jmp_calc.pretrained.storage import MIRROR_VARIABLE, OFFLINE_VARIABLE
from range_server import RangeServer, serve

TINY = replace(NANO, num_blocks=1, emb_size_atom=8, emb_size_edge=8)
TRUE = {1: -13.6, 6: -1036.2, 8: -2043.9}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JMP_CALC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch) -> Iterator[RangeServer]:
    """A mirror that has the same small file under every name."""
    with serve(b"weights" * 1000) as running:
        monkeypatch.setenv(MIRROR_VARIABLE, running.url.replace("/jmp-x.pt", ""))
        yield running


def save(path: Path, *heads: HeadSpec) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = JMPModel(TINY, heads)
    model.info = {"name": "tiny", "licence": "MIT", "training": {"steps": 3}}
    save_weights(model, path)
    return path


def head(name: str = "toy", **fields) -> HeadSpec:
    return HeadSpec(
        name=name,
        graph=GraphRules(cutoff=4.0, atom_atom_cutoff=5.0),
        forces="gradient",
        level_of_theory="PBE0+MBD",
        elements=(1, 6, 8),
        **fields,
    )


@pytest.fixture
def weights(tmp_path) -> Path:
    return save(tmp_path / "tiny.safetensors", head())


@pytest.fixture
def labelled(tmp_path, weights) -> Path:
    """Structures whose labels are the model's energies plus known references."""
    systems = [molecule(name) for name in ("H2O", "CH4", "CO2", "CH3OH", "H2CO")]
    results = JMPCalculator(load_model(weights)).evaluate(systems)
    for atoms, result in zip(systems, results, strict=True):
        reference = sum(TRUE[z] for z in atoms.numbers)
        atoms.info["REF_energy"] = result["energy"] + reference
    ase.io.write(tmp_path / "labelled.xyz", systems)
    return tmp_path / "labelled.xyz"


def models(*words) -> int:
    return main(["models", *map(str, words)])


def test_the_list_names_size_presence_licence_and_heads(capsys, home):
    home.mkdir()
    (home / "jmp-s.pt").write_bytes(bytes(1500))
    assert models() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "SIZE", "HERE", "LICENCE", "HEADS"]
    published = ["CC-BY-NC-4.0", "oc20,", "oc22,", "ani1x,", "transition1x"]
    assert ["jmp-small", "1.5", "kB", "yes", *published] in lines
    assert ["jmp-large", "3.75", "GB", "no", *published] in lines


def test_the_list_reads_the_heads_of_the_bundled_model(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("jmp_calc.pretrained.storage.BUNDLED", tmp_path)
    save(tmp_path / "jmp-nano.safetensors", head("a"), head("b"))
    assert models() == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("jmp-nano")
    assert line.endswith("MIT           a, b")


def test_the_list_survives_a_missing_and_a_damaged_bundled_model(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("jmp_calc.pretrained.storage.BUNDLED", tmp_path)
    assert models() == 0
    assert "missing" in capsys.readouterr().out.splitlines()[1]
    (tmp_path / "jmp-nano.safetensors").write_bytes(b"12345678")
    assert models() == 0
    assert "damaged file" in capsys.readouterr().out.splitlines()[1]


def test_the_list_shows_how_much_of_a_download_is_there(capsys, home):
    home.mkdir()
    (home / "jmp-l.pt.part").write_bytes(bytes(2000))
    assert models() == 0
    assert "2 kB of it" in capsys.readouterr().out


def test_list_and_help_do_not_import_torch(home):
    code = (
        "import sys; from jmp_calc.cli import main\n"
        "assert main(['models']) == main(['models', '--help']) == 0\n"
        "assert main(['models', 'fit-references', '--help']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)


def test_show_tells_everything_about_each_head(capsys, tmp_path):
    path = save(tmp_path / "a.safetensors", head(is_default=True), head("b", **RICH))
    assert models("show", path) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in (
        "tiny",
        "licence     MIT",
        "units       energy eV, force eV/angstrom, length angstrom",
        "head toy (default)",
        "theory      PBE0+MBD",
        "elements    H C O",
        "cutoffs     main 4, atom-edge 4, quadruplet 4, atom-atom 5 Å",
        "neighbors   no limit",
        "periodic    as the structure says",
        "forces      gradient of the energy, conservative",
        "head b",
        "energy      relative: comparable at equal composition only",
        "for         surfaces",
        "energy      absolute; elements with a reference energy: H",
        "licence     CC-BY-4.0",
        "steps: 3",
    ):
        assert line in lines
    assert "'jmp-md models fit-references' makes relative energies absolute." in lines


def test_show_reads_a_header_without_fields_that_came_later(capsys, weights):
    rewrite_header(weights, lambda h: h["heads"][0].pop("is_default"))
    assert models("show", weights) == 0
    assert "\nhead toy\n" in capsys.readouterr().out


def test_show_of_a_header_that_makes_no_sense_is_one_line(capsys, weights):
    rewrite_header(weights, lambda h: h["heads"][0].update(domain="liquid"))
    assert models("show", weights) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "heads[0].domain is 'liquid', should be 'molecule' or" in error


def test_show_prints_nothing_that_a_terminal_would_obey(capsys, weights):
    def attack(header):
        header["info"] |= {"name": "a\x1b[2J", "licence": "b\r", "more": "c\x07"}
        header["heads"][0]["level_of_theory"] = "d\x9b"

    rewrite_header(weights, attack)
    assert models("show", weights) == 0
    text = capsys.readouterr().out
    assert text.startswith("a?[2J\n")
    assert text.replace("\n", "").isprintable()


def rewrite_header(path, change) -> None:
    header = read_header(path)
    change(header)
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(header)})


RICH = {"domain": "surface", "references": {1: -13.6}, "licence": "CC-BY-4.0"}


def test_show_of_a_published_layout_gives_its_rules(capsys, tmp_path, monkeypatch):
    rules = GraphRules(
        rules="published", cutoff=12.0, max_neighbors=30, is_periodic=True
    )

    def read(path, *, ema):
        config = replace(TINY, has_direct_forces=True)
        model = JMPModel(
            config,
            [HeadSpec(name="o", graph=rules, forces="direct", has_direct_forces=True)],
        )
        model.info = {"name": "x", "licence": "CC-BY-NC-4.0", "weights_sha256": "0f"}
        return model

    monkeypatch.setattr("jmp_calc.models.published.load_published", read)
    (tmp_path / "x.pt").touch()
    assert models("show", tmp_path / "x.pt") == 0
    text = capsys.readouterr().out
    assert "sha256      0f\nlicence     CC-BY-NC-4.0" in text
    assert "direct, not conservative; gradient forces are untrained" in text
    assert "cutoffs     12 Å in all graphs" in text
    assert "at most main 30, atom-edge 20, quadruplet 8, atom-atom 1000" in text
    assert "always, in all three directions" in text


def test_show_of_a_model_that_is_not_here_tells_what_is_known(capsys):
    assert models("show", "jmp-large") == 0
    text = capsys.readouterr().out
    assert "not on this computer (3.75 GB)" in text
    assert "https://jmp-iclr-datasets.s3.amazonaws.com/jmp-l.pt" in text
    assert "head        oc22          an oxide surface" in text


def test_download_tells_source_licence_and_where_the_file_is(capsys, server, home):
    assert models("download", "jmp-small") == 0
    text = capsys.readouterr().out
    assert f"from        {server.url.replace('jmp-x', 'jmp-s')}" in text
    assert "CC-BY-NC-4.0: not for commercial use" in text
    assert f"present     {home / 'jmp-s.pt'}" in text
    assert "size        7 kB" in text


def test_a_second_download_only_checks(capsys, server):
    models("download", "jmp-small")
    assert models("download", "jmp-small", "--offline") == 0
    assert server.asked == [None]


def test_an_offline_download_fails_in_one_line(capsys, server):
    assert models("download", "jmp-large", "--offline") == 2
    error = capsys.readouterr().err
    assert error.startswith("jmp-md: error: jmp-large is not in")
    assert len(error.splitlines()) == 1
    assert server.asked == []


def test_the_large_model_has_a_known_size(capsys, server):
    assert models("download", "jmp-large") == 2
    assert "has a file of 7000 bytes, but jmp-large has 3749529931" in (
        capsys.readouterr().err
    )


def test_ctrl_c_says_what_is_kept(capsys, server, home, monkeypatch):
    def stop(*_, **__):
        (home / "jmp-s.pt.part").write_bytes(bytes(5000))
        raise KeyboardInterrupt

    monkeypatch.setattr("jmp_calc.pretrained.transfer.RangeDownloader._write", stop)
    assert models("download", "jmp-small") == 130
    assert "5 kB of jmp-small are kept; run this again" in capsys.readouterr().err


def test_verify_reads_the_file_and_finds_a_change(capsys, server, home):
    models("download", "jmp-small")
    assert models("verify", "jmp-small") == 0
    assert "file        intact since 20" in capsys.readouterr().out
    (home / "jmp-s.pt").write_bytes(b"WEIGHTS" * 1000)
    assert models("verify", "jmp-small") == 2
    assert "is not what was first downloaded" in capsys.readouterr().err


def test_verify_of_the_bundled_model_reads_all_of_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("jmp_calc.pretrained.storage.BUNDLED", tmp_path)
    path = save(tmp_path / "jmp-nano.safetensors", head())
    assert models("verify", "jmp-nano") == 0
    assert "complete" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-4])
    assert models("verify", "jmp-nano") == 2


def test_path_prints_the_path_alone(capsys, home):
    assert models("path", "jmp-large") == 0
    shown = capsys.readouterr()
    assert shown.out == f"{home / 'jmp-l.pt'}\n"
    assert "jmp-large is not there yet" in shown.err


@pytest.mark.parametrize("verb", ["show", "download", "verify", "path"])
def test_a_wrong_name_lists_the_names_and_guesses(capsys, verb):
    assert models(verb, "jmp-larg") == 2
    error = capsys.readouterr().err
    assert ", ".join(PRETRAINED) in error
    assert "did you mean 'jmp-large'?" in error


def test_fitted_references_make_energies_those_of_the_labels(capsys, weights, labelled):
    before = weights.read_bytes()
    assert models("fit-references", weights, labelled, "--out", "new.safetensors") == 0
    assert weights.read_bytes() == before
    text = capsys.readouterr().out
    assert "labelled.xyz: 5 structures, 21 atoms" in text
    assert "tiny.safetensors, head toy (PBE0+MBD)" in text
    assert "use         jmp-md run INPUT --model new.safetensors\n" in text
    systems = ase.io.read(labelled, index=":")
    results = JMPCalculator("new.safetensors").evaluate(systems)
    energies = [result["energy"] for result in results]
    labels = [atoms.info["REF_energy"] for atoms in systems]
    np.testing.assert_allclose(energies, labels, atol=1e-4)


def test_the_new_file_tells_what_it_was_made_from(capsys, weights, labelled):
    models("fit-references", weights, labelled, "--out", "new.safetensors")
    info = read_header(Path("new.safetensors"))["info"]
    assert (info["name"], info["licence"], info["made_from"]["name"]) == (
        "new",
        "MIT",
        "tiny",
    )
    assert info["references"]["toy"]["structures"] == 5


def test_errors_before_and_after_count_old_references(capsys, tmp_path, labelled):
    old = save(tmp_path / "old.safetensors", head(references=TRUE | {9: -1.0}))
    assert models("fit-references", old, labelled, "--out", "new.safetensors") == 0
    shown = capsys.readouterr()
    (line,) = [x for x in shown.out.splitlines() if x.startswith("error")]
    assert float(line.split()[1]) < 1e-4
    assert "before (eV)" in shown.out
    assert "F had a reference and do not occur in the file" in shown.err


def test_one_composition_gives_a_warning(capsys, weights, tmp_path):
    systems = [molecule("H2O") for _ in range(3)]
    for atoms in systems:
        atoms.info["REF_energy"] = -2000.0
    ase.io.write(tmp_path / "water.xyz", systems)
    assert models("fit-references", weights, "water.xyz", "--out", "n.safetensors") == 0
    assert "2 elements occur in only 1 independent prop" in capsys.readouterr().err


def test_too_few_structures_are_said_before_the_model_works(
    capsys, weights, tmp_path, monkeypatch
):
    monkeypatch.setattr("jmp_calc.cli.references._energies", None)
    atoms = molecule("CH3OH")
    atoms.info["REF_energy"] = -2000.0
    ase.io.write(tmp_path / "few.xyz", [atoms] * 2)
    assert models("fit-references", weights, "few.xyz", "--out", "n.safetensors") == 2
    assert "2 structures with 3 elements" in capsys.readouterr().err


def test_the_same_file_is_replaced_only_when_told_so(capsys, weights, labelled):
    before = weights.read_bytes()
    assert models("fit-references", weights, labelled, "--out", weights) == 2
    assert "exists; give another --out, or --overwrite" in capsys.readouterr().err
    assert weights.read_bytes() == before
    words = ("fit-references", weights, labelled, "--out", weights, "--overwrite")
    assert models(*words) == 0
    assert load_model(weights).heads["toy"].references == pytest.approx(TRUE, abs=1e-4)


def test_weights_are_written_in_our_layout_only(capsys, weights, labelled):
    assert models("fit-references", weights, labelled, "--out", "new.pt") == 2
    assert "end in .safetensors, so give new.safetensors" in capsys.readouterr().err


def test_a_model_with_several_heads_needs_a_choice(capsys, tmp_path, labelled):
    path = save(tmp_path / "two.safetensors", head("a"), head("bee"))
    words = ("fit-references", path, labelled, "--out", "new.safetensors")
    assert models(*words) == 2
    assert "has the energy heads a, bee; say which by --head" in capsys.readouterr().err
    assert models(*words, "--head", "be") == 2
    assert "there is no 'be'; did you mean 'bee'?" in capsys.readouterr().err
    assert models(*words, "--head", "bee") == 0
    assert load_model("new.safetensors").heads["a"].references is None


def test_a_file_without_labels_lists_the_keys_found(capsys, weights, tmp_path):
    atoms = molecule("H2O")
    atoms.info["dft_energy"] = -2000.0
    ase.io.write(tmp_path / "water.xyz", [atoms] * 3)
    words = ("fit-references", weights, "water.xyz", "--out", "new.safetensors")
    assert models(*words) == 2
    assert "structure 0 of water.xyz: no energy label" in (
        error := capsys.readouterr().err
    )
    assert "found are dft_energy" in error
    assert models(*words, "--energy-key", "dft_energy") == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nothing.xyz", "nothing.xyz does not exist; give a file of struct"),
        (".", ". is a folder; give a file of structures"),
        ("text.xyz", "cannot read structures from text.xyz"),
    ],
)
def test_a_wrong_file_is_an_error(capsys, weights, tmp_path, file, message):
    (tmp_path / "text.xyz").write_text("not\nstructures\n")
    assert models("fit-references", weights, file, "--out", "new.safetensors") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", [(), ("show",), ("download",), ("verify",), ("path",), ("fit-references",)]
)
def test_every_verb_has_help_with_an_example(verb, capsys) -> None:
    assert main(["models", *verb, "--help"]) == 0
    assert f"Example: jmp-md {' '.join(['models', *verb])}" in capsys.readouterr().out
