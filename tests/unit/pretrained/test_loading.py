from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError, DownloadError
from jmp_calc.files import file_hash
from jmp_calc.models.config import NANO, GraphRules, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import save_weights
from jmp_calc.pretrained import PRETRAINED, load_model, locate

TINY = replace(NANO, num_blocks=1, emb_size_atom=8, emb_size_edge=8)
HEAD = HeadSpec(name="toy", graph=GraphRules(cutoff=3.0), forces="gradient")


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "tiny.safetensors"
    model = JMPModel(TINY, [HEAD])
    model.info = {"name": "tiny", "licence": "MIT", "training": {"steps": 3}}
    save_weights(model, path)
    return path


@pytest.fixture
def published(monkeypatch, tmp_path) -> list[tuple[Path, str]]:
    """What reaches the reader of published files, which is replaced."""
    asked = []

    def read(path, *, ema, sha256):
        asked.append((path, ema))
        model = JMPModel(TINY, [HEAD])
        model.info = {"name": path.stem, "licence": "CC-BY-NC-4.0"}
        model.info["weights_sha256"] = sha256
        return model

    monkeypatch.setattr("jmp_calc.models.published.load_published", read)
    return asked


def test_a_path_of_our_weights_gives_their_model(weights):
    model = load_model(weights)
    assert list(model.heads) == ["toy"]
    assert (model.info["name"], model.info["path"]) == ("tiny", str(weights))


def test_a_path_may_be_text(weights):
    loaded = load_model(str(weights))
    stored = load_model(weights)
    torch.testing.assert_close(loaded.state_dict(), stored.state_dict())


def test_a_path_may_begin_with_the_home_folder(weights, monkeypatch):
    monkeypatch.setenv("HOME", str(weights.parent))
    assert locate("~/tiny.safetensors") == weights


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_a_published_file_is_read_with_the_chosen_average(suffix, tmp_path, published):
    path = tmp_path / f"mine{suffix}"
    path.touch()
    assert load_model(path, ema="paper").info["name"] == "mine"
    assert published == [(path, "paper")]


def test_a_published_model_is_called_by_its_name_here(home, published):
    home.mkdir()
    (home / "jmp-s.pt").touch()
    assert load_model("jmp-small").info["name"] == "jmp-small"
    assert published == [(home / "jmp-s.pt", "full")]


def test_a_named_file_is_not_read_again_for_its_hash(home, published):
    home.mkdir()
    (home / "jmp-s.pt").write_bytes(b"weights")
    found = load_model("jmp-small").info["weights_sha256"]
    assert found == file_hash(home / "jmp-s.pt")
    assert load_model(home / "jmp-s.pt").info["weights_sha256"] is None


def test_a_bundled_model_lies_in_the_package(weights, monkeypatch):
    monkeypatch.setattr("jmp_calc.pretrained.storage.BUNDLED", weights.parent)
    weights.rename(weights.with_name("jmp-nano.safetensors"))
    assert load_model("jmp-nano").info["name"] == "jmp-nano"


def test_offline_reaches_the_download():
    with pytest.raises(DownloadError, match="switched off"):
        load_model("jmp-large", offline=True)


def test_an_unknown_name_lists_the_names_and_guesses():
    with pytest.raises(
        ArgumentError,
        match=r"unknown model 'jmp-larg'; choose one of jmp-nano, jmp-small, "
        r"jmp-large, or give the path of a weights file; did you mean 'jmp-large'\?",
    ):
        load_model("jmp-larg")


@pytest.mark.parametrize(
    "given", ["runs/mine", "mine.pt", "./mine", "~mine", Path("mine")]
)
def test_what_looks_like_a_path_is_said_not_to_exist(given):
    with pytest.raises(ArgumentError, match=r"mine.* does not exist; give an exist"):
        load_model(given)


def test_a_folder_is_an_error_that_names_the_weights_in_it(weights):
    with pytest.raises(ArgumentError, match=r"is a folder; .* in it: tiny\.safe"):
        load_model(weights.parent)


def test_a_folder_without_weights_says_what_is_looked_for(tmp_path):
    with pytest.raises(ArgumentError, match=r"is a folder without .*\.safetensors"):
        load_model(tmp_path)


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path):
    path = tmp_path / "water.xyz"
    path.touch()
    with pytest.raises(ArgumentError, match="is not a weights file by its name; those"):
        load_model(path)


def test_published_models_state_their_licence_and_heads():
    for name in ("jmp-small", "jmp-large"):
        assert PRETRAINED[name].licence == "CC-BY-NC-4.0"
        assert list(PRETRAINED[name].heads) == ["oc20", "oc22", "ani1x", "transition1x"]


def test_names_are_known_without_torch():
    code = (
        "import sys, jmp_calc.pretrained, jmp_calc.cli.models\n"
        "print({'torch', 'requests', 'pooch'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "set()\n"
