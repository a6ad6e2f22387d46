"""Weights files: what is written comes back, and anything else is refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.files import file_hash
from jmp_calc.graph.build import graph_from_arrays
from jmp_calc.models import weights
from jmp_calc.models.config import NANO, GraphRules, HeadSpec, TargetSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import (
    load_weights,
    read_header,
    save_weights,
)

TINY = replace(
    NANO, num_blocks=1, emb_size_atom=8, emb_size_edge=12, has_direct_forces=True
)
HEADS = (
    HeadSpec(
        name="molecules",
        graph=GraphRules(cutoff=5.0, quadruplet_cutoff=4.0, is_periodic=False),
        forces="gradient",
        energy_scale=1 / 3,
        energy_shift=-0.1,
        references={1: -13.6, 8: -2041.8396277138045},
        is_default=True,
        elements=(1, 8),
        level_of_theory="wB97x/6-31G(d)",
        licence="CC0-1.0",
    ),
    HeadSpec(
        name="slabs",
        graph=GraphRules(
            rules="published",
            cutoff=12.0,
            max_neighbors=30,
            is_periodic=True,
            radial_cutoff=12.0,
            quadruplet_tags=(1, 2),
        ),
        forces="direct",
        has_direct_forces=True,
        reduction="mean",
        force_scale=0.51,
        domain="surface",
    ),
)


@pytest.fixture
def model() -> JMPModel:
    torch.manual_seed(0)
    model = JMPModel(TINY, HEADS)
    for name, buffer in model.named_buffers():
        if name.endswith("factor"):
            buffer.fill_(torch.rand(()).item() + 0.5)
    model.info = {"name": "tiny", "licence": "MIT", "training": {"steps": 3}}
    return model


@pytest.fixture
def file(model: JMPModel, tmp_path: Path) -> Path:
    save_weights(model, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same tensors under a changed header."""
    header = read_header(file)
    change(header)
    metadata = {weights.METADATA_KEY: json.dumps(header)}
    save_file(load_file(file), file.with_name("changed.safetensors"), metadata)
    return file.with_name("changed.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_tensor_comes_back_bit_for_bit(
    model: JMPModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    model.to(dtype)
    save_weights(model, tmp_path / "m.safetensors")
    loaded = load_weights(tmp_path / "m.safetensors").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].numpy().tobytes() == value.numpy().tobytes()
    assert sum(name.endswith("factor") for name in loaded) == 15


def test_what_the_weights_assume_comes_back(file: Path) -> None:
    loaded = load_weights(file)
    assert loaded.config == TINY
    assert tuple(loaded.heads.values()) == HEADS
    assert not loaded.training


def test_loaded_model_predicts_the_same_numbers(model: JMPModel, file: Path) -> None:
    graph = graph_from_arrays(
        positions=np.array([[0.0, 0, 0], [0.9, 0.1, 0], [-0.3, 0.9, 0]]),
        numbers=np.array([8, 1, 1]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        tags=np.full(3, 2),
        rules=HEADS[0].graph,
    )
    there = model.eval()(graph, "molecules", forces="gradient")
    here = load_weights(file)(graph, "molecules", forces="gradient")
    assert torch.equal(here.energy, there.energy)
    assert torch.equal(here.forces, there.forces)


def test_info_comes_back_with_path_and_hash(file: Path) -> None:
    info = load_weights(file).info
    assert info["training"] == {"steps": 3}
    assert (info["name"], info["licence"]) == ("tiny", "MIT")
    assert info["path"] == str(file)
    assert info["weights_sha256"] == file_hash(file)


def test_info_has_name_licence_and_training_even_if_none_were_given(
    model: JMPModel, tmp_path: Path
) -> None:
    model.info = {}
    save_weights(model, tmp_path / "plain.safetensors")
    info = load_weights(tmp_path / "plain.safetensors").info
    assert (info["name"], info["licence"]) == ("plain", "not stated")
    assert info["training"] == {}


def test_path_and_hash_do_not_travel_into_the_next_file(
    file: Path, tmp_path: Path
) -> None:
    save_weights(load_weights(file), tmp_path / "again.safetensors")
    assert "path" not in read_header(tmp_path / "again.safetensors")["info"]
    assert file_hash(tmp_path / "again.safetensors") == file_hash(file)


def test_header_states_version_and_units(file: Path) -> None:
    header = read_header(file)
    assert header["version"] == 1
    assert header["units"] == {
        "length": "angstrom",
        "energy": "eV",
        "force": "eV/angstrom",
    }
    assert header["heads"][0]["references"] == {"1": -13.6, "8": -2041.8396277138045}


def test_training_numbers_that_are_not_finite_become_text(
    model: JMPModel, tmp_path: Path
) -> None:
    model.info = {"training": {"losses": [1.5, math.nan, -math.inf], "best": math.inf}}
    save_weights(model, tmp_path / "m.safetensors")
    training = load_weights(tmp_path / "m.safetensors").info["training"]
    assert training == {"losses": [1.5, "nan", "-inf"], "best": "inf"}


def test_a_scale_that_is_not_finite_cannot_be_saved(tmp_path: Path) -> None:
    model = JMPModel(TINY, [replace(HEADS[0], energy_scale=math.nan)])
    with pytest.raises(ArgumentError, match=r"scale.*of the model is not finite"):
        save_weights(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_info_that_is_not_json_cannot_be_saved(model: JMPModel, tmp_path: Path) -> None:
    model.info["training"] = {"model": model}
    with pytest.raises(ArgumentError, match=r"info can hold text.*JMPModel is not"):
        save_weights(model, tmp_path / "m.safetensors")


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(
    model: JMPModel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_hash(file)

    def fail(_tensors: Any, path: Path, **_rest: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights.safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(model, file)
    assert file_hash(file) == before
    assert list(file.parent.iterdir()) == [file]


def test_saving_makes_folders_and_a_file_of_the_usual_mode(
    model: JMPModel, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "folder" / "m.safetensors"
    save_weights(model, path)
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode
    assert os.listdir(path.parent) == ["m.safetensors"]


@pytest.mark.parametrize("n_left", [0, 5, 300, -1])
def test_a_truncated_file_is_damaged(file: Path, n_left: int) -> None:
    file.write_bytes(file.read_bytes()[:n_left])
    with pytest.raises(CheckpointError, match="is damaged, incomplete or not a safe"):
        load_weights(file)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "canary",))

    (tmp_path / "bomb.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_weights(tmp_path / "bomb.safetensors")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "f.safetensors", metadata)
    with pytest.raises(CheckpointError, match="but not one of jmp-calc"):
        read_header(tmp_path / "f.safetensors")


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        load_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "header is damaged"),
        ("[" * 100_000, "header is damaged"),
        ('{"version": NaN}', "NaN is not a number"),
        ("[1]", "it has no version"),
        ('{"version": "1"}', "it has no version"),
        ('{"version": 0}', "it has no version"),
        ('{"version": 1, "units": {}}', "it lacks config, heads, info"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.zeros(2)}, path, {weights.METADATA_KEY: text})
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_a_deep_header_is_refused_whatever_the_limit_of_the_process(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.zeros(2)}, path, {weights.METADATA_KEY: "[" * 100_000})
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(CheckpointError, match="nested more than 100 levels"):
            read_header(path)
    finally:
        sys.setrecursionlimit(before)


def test_a_newer_format_asks_for_an_upgrade(file: Path) -> None:
    changed = rewrite(file, lambda header: header.update(version=3))
    with pytest.raises(
        CheckpointError, match=r"weights format 3.*reads up to 2; upgrade it: pip"
    ):
        load_weights(changed)


PROPERTY = {
    "kind": "scalar",
    "forces": None,
    "has_direct_forces": False,
    "target": {"name": "gap"},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["units"].update(energy="Ha"), "has units.*Ha.*allowed are"),
        (lambda h: h.update(heads={}), "heads must be a list"),
        (lambda h: h.update(info=[]), "info a mapping"),
        (lambda h: h.update(config=3), "config is 3, should be a mapping"),
        (lambda h: h["config"].update(num_atomz=1), "did you mean 'num_atom'.*newer"),
        (lambda h: h["config"].pop("num_blocks"), "config lacks 'num_blocks'"),
        (lambda h: h["config"].update(num_blocks=1.5), "1.5, should be a whole number"),
        (lambda h: h["config"].update(num_blocks=True), "True, should be a whole"),
        (lambda h: h["config"].update(rules="x"), "'published' or 'smooth'"),
        (lambda h: h["config"].update(num_blocks=10**9), "does not go with a file of"),
        (
            lambda h: h["config"].update(emb_size_rbf=-1),
            r"config: .*emb_size_rbf is -1",
        ),
        (lambda h: h["heads"][0].update(name=None), r"heads\[0\].name is None.*text"),
        (lambda h: h["heads"][0]["graph"].update(cutoff=-1), "cutoff is -1.0 angstrom"),
        (lambda h: h["heads"][0]["graph"].update(cutoff="5"), "'5', should be a finit"),
        (
            lambda h: h["heads"][1].update(energy_scale=10**400),
            "should be a finite number",
        ),
        (lambda h: h["heads"][1].update(references={"H": 1.0}), "has the key 'H'"),
        (lambda h: h["heads"][1].update(elements=3), r"elements is 3, should be tuple"),
        (lambda h: h["heads"][1].update(name="molecules"), "names must be distinct"),
        (
            lambda h: h["heads"][1].update(name="a.b"),
            r"heads\[1\].name is 'a.b', whi",
        ),
        (lambda h: h["heads"][1].update(name="type"), "name is 'type', which cannot"),
        (
            lambda h: h["heads"][1].update(force_scale=0),
            "force_scale is 0.0, should b",
        ),
        (lambda h: h["heads"][1]["graph"].update(radial_cutoff=-1), "radial_cutoff is"),
        (
            lambda h: h["heads"][0]["graph"].update(atom_atom_cutoff=-1),
            "atom_atom cutoff is -1.0, should be positive",
        ),
        (lambda h: h["heads"][0].update(elements=[0]), "element of atomic number 0"),
        (lambda h: h["heads"][0].update(references={"119": 1.0}), "atomic number 119"),
        (
            lambda h: h["heads"][0].update(target={"name": "gap"}),
            "'energy_forces' has a target, 'gap'",
        ),
        (lambda h: h["heads"][0].update(kind="vector"), "kind is 'vector', should be"),
        (lambda h: h["heads"][0].update(PROPERTY, target=None), "needs a target that"),
        (lambda h: h["heads"][0].update(PROPERTY, target=3), "target is 3, should be"),
        (
            lambda h: h["heads"][0].update(PROPERTY, forces="direct"),
            "predicts no forces",
        ),
        (
            lambda h: h["heads"][0].update(PROPERTY, target={"name": "a", "scale": 0}),
            "scale of target 'a' is 0.0; it must be positive",
        ),
        (
            lambda h: h["heads"][0].update(
                PROPERTY, target={"name": "a", "shift": "x"}
            ),
            "target.shift is 'x', should be a finite number",
        ),
        (
            lambda h: h["heads"][0].update(
                PROPERTY, target={"name": "a", "references": {"0": 1.0}}
            ),
            "element of atomic number 0",
        ),
        (
            lambda h: h["heads"][0].update(
                PROPERTY, kind="multiclass", target={"name": "a", "classes": ["x"]}
            ),
            "has 1 classes; give the names of 2 to 1000",
        ),
        (lambda h: h["heads"][0].update(PROPERTY), "the weights do not fit the model"),
        (
            lambda h: h["heads"][1]["graph"].update(max_neighbors_by_size=[[200]]),
            r"by_size is \[200\], should have 2 entries",
        ),
        (
            lambda h: h["heads"][1]["graph"].update(max_neighbors_by_size=[[200, 0]]),
            "numbers of at least 1",
        ),
        (
            lambda h: h["heads"][1]["graph"].update(max_neighbors_by_size=3),
            "max_neighbors_by_size is 3, should be",
        ),
        (lambda h: h["info"].update(name=3), "name in info must be text"),
        (lambda h: h["info"].update(licence=None), "licence in info must be text"),
        (lambda h: h["info"].update(training=[]), "training in info must be a mapping"),
    ],
)
def test_a_header_that_does_not_make_sense_is_refused(
    file: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"changed\.safetensors.*{message}"):
        load_weights(rewrite(file, change))


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({}, 1),
        ({"graph": replace(HEADS[1].graph, max_neighbors_by_size=((200, 10),))}, 2),
        ({"forces": None}, 2),
        (
            {
                "kind": "multiclass",
                "forces": None,
                "has_direct_forces": False,
                "target": TargetSpec(name="phase", classes=("a", "b")),
            },
            2,
        ),
    ],
)
def test_the_oldest_format_that_can_say_it_is_written(
    tmp_path: Path, change: dict[str, Any], version: int
) -> None:
    heads = [HEADS[0], replace(HEADS[1], **change)]
    save_weights(JMPModel(TINY, heads), tmp_path / "new.safetensors")
    header = read_header(tmp_path / "new.safetensors")
    assert header["version"] == version
    loaded = load_weights(tmp_path / "new.safetensors")
    assert list(loaded.heads.values()) == heads


def test_what_a_file_does_not_use_is_not_in_its_header(file: Path) -> None:
    for head in read_header(file)["heads"]:
        assert "target" not in head
        assert "max_neighbors_by_size" not in head["graph"]


def test_a_field_with_a_default_may_be_absent(file: Path) -> None:
    changed = rewrite(file, lambda h: h["heads"][0].pop("is_default"))
    assert not load_weights(changed).heads["molecules"].is_default


def test_weights_that_are_whole_numbers_are_refused(file: Path) -> None:
    tensors = load_file(file)
    tensors["embedding.weight"] = tensors["embedding.weight"].long()
    save_file(tensors, file, {weights.METADATA_KEY: json.dumps(read_header(file))})
    with pytest.raises(
        CheckpointError,
        match=r"1 are no real numbers: embedding\.weight holds torch\.int64",
    ):
        load_weights(file)


def test_missing_and_extra_tensors_are_listed_up_to_five(file: Path) -> None:
    tensors = load_file(file)
    kept = {k: v for k, v in tensors.items() if not k.startswith("backbone.bases.")}
    kept |= {f"extra.{i}": torch.zeros(1) for i in range(7)}
    metadata = {weights.METADATA_KEY: json.dumps(read_header(file))}
    save_file(kept, file, metadata)
    with pytest.raises(
        CheckpointError,
        match=r"14 tensors are missing: backbone\.bases\.\w+(\S*, \S+){4} and 9 more; "
        r"7 are not part of the model: extra\.0,.* extra\.4 and 2 more",
    ):
        load_weights(file)
