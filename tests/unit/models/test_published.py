"""The reader of jmp-s.pt and jmp-l.pt, on a file of the original and on our own."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.files import file_hash
from jmp_calc.graph.build import graph_from_arrays
from jmp_calc.models import published
from jmp_calc.models.config import NANO, GraphRules, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.published import load_published
from jmp_calc.models.published_tasks import TASKS
from jmp_calc.models.state_dict import ours_to_published
from jmp_calc.models.torch_archive import TorchArchive
from jmp_calc.models.weights import load_weights, save_weights

SHARED = Path(__file__).parents[4] / "shared" / "parity" / "published_layout"
RELATIVE = 1e-10
"""Float64 tolerance of the stored results, relative to the largest magnitude."""
TINY = replace(
    NANO,
    num_blocks=1,
    emb_size_atom=8,
    emb_size_edge=12,
    num_head_layers=5,
    rules="published",
    has_direct_forces=True,
)
STRUCTURES = {"ethanol": "ani1x", "water_dimer": "ani1x", "cu_slab_co": "oc20"}
SETS = {"none": "raw", "paper": "ema_published", "full": "ema_full"}
needs_file = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the file written by the published code is not here"
)


# --- the file that the published code wrote


@cache
def shared_model(file: str, ema: published.Ema) -> JMPModel:
    """A model of a stored file; not to be changed."""
    return load_published(SHARED / file, ema=ema)


def relative_error(found: np.ndarray, stored: np.ndarray) -> float:
    return float(np.abs(found - stored).max() / np.abs(stored).max())


def results(model: JMPModel, case: Any, structure: str) -> dict[str, np.ndarray]:
    """Everything that the file states for a structure, in network units."""
    graph = graph_from_arrays(
        positions=case[f"{structure}.pos"],
        numbers=case[f"{structure}.atomic_numbers"],
        cell=case[f"{structure}.cell"],
        pbc=case[f"{structure}.pbc"],
        tags=case[f"{structure}.tags"],
        rules=model.heads[STRUCTURES[structure]].graph,
    )
    with torch.no_grad():
        direct = [model(graph, head, forces="direct") for head in model.heads]
    found = {
        "energy": torch.cat([p.energy for p in direct]),
        "forces": torch.stack([p.forces for p in direct], -1),
    }
    for head in ("ani1x", "oc20"):
        gradient = model(graph, head, forces="gradient").forces
        found[f"gradient_forces_{head}"] = gradient
    return {name: value.numpy() for name, value in found.items()}


@needs_file
@pytest.mark.parametrize("ema", SETS)
def test_the_published_numbers_are_reproduced(ema: published.Ema) -> None:
    model = copy.deepcopy(shared_model("tiny.pt", ema)).double()
    with np.load(SHARED / "tiny.npz") as case:
        for structure in STRUCTURES:
            for name, found in results(model, case, structure).items():
                stored = case[f"{structure}.{SETS[ema]}.{name}"]
                assert found.shape == stored.shape
                assert relative_error(found, stored) < RELATIVE, (structure, name)


@needs_file
@pytest.mark.parametrize("ema", SETS)
def test_a_configuration_of_unknown_classes_gives_the_same_model(
    ema: published.Ema,
) -> None:
    plain = shared_model("tiny.pt", ema)
    other = shared_model("class_refs.pt", ema)
    assert (other.heads, other.config) == (plain.heads, plain.config)
    expected = plain.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in other.state_dict().items())


@needs_file
def test_the_published_file_gives_the_heads_of_the_task_table() -> None:
    heads = shared_model("tiny.pt", "full").heads
    assert list(heads) == ["oc20", "oc22", "ani1x", "transition1x"]
    assert heads["oc20"].graph == GraphRules(
        rules="published",
        cutoff=12.0,
        max_neighbors=30,
        is_periodic=True,
        radial_cutoff=12.0,
        quadruplet_tags=(1, 2),
    )
    assert heads["ani1x"].graph == replace(
        heads["oc20"].graph, cutoff=8.0, is_periodic=False
    )
    assert {h.domain for h in heads.values()} == {"surface", "molecule"}
    assert heads["oc22"].energy_scale == 25.229595396538468
    assert heads["transition1x"].force_scale == 0.3591422140598297


# --- files of our own in the same layout


@cache
def tiny_model(seed: int) -> JMPModel:
    """Random weights; the same for the same seed, and not to be changed."""
    torch.manual_seed(seed)
    heads = [
        HeadSpec(
            name=name,
            graph=GraphRules(cutoff=5.0),
            forces="direct",
            has_direct_forces=True,
        )
        for name in TASKS
    ]
    model = JMPModel(TINY, heads)
    for name, value in model.state_dict().items():
        if name.endswith("factor"):
            value.fill_(torch.rand(()).item() + 0.5)
    return model


def is_averaged(name: str) -> bool:
    """Whether the training run keeps an average under this published name."""
    is_buffer = name.endswith(("rbf.offset", "rbf.temps", "scale_factor"))
    return not is_buffer and ".seq_energy_pre." not in name


def checkpoint() -> dict[str, Any]:
    """What the published code saves: raw weights of seed 0, averages of seed 1."""
    raw, average = (
        ours_to_published(
            tiny_model(seed).state_dict(), task_names=list(TASKS), layout="pretraining"
        )
        for seed in (0, 1)
    )
    counters = {
        f"task_steps._module_dict.{t}.sum_value": torch.zeros(()) for t in TASKS
    }
    names = [name for name in raw if is_averaged(name)]
    moments = {
        i: {"step": torch.ones(()), "exp_avg": torch.ones(50), "exp_avg_sq": raw[name]}
        for i, name in enumerate(names)
    }
    backbone = {k: v for k, v in asdict(TINY).items() if k not in ("rules",)}
    backbone |= {"absolute_rbf_cutoff": 12.0, "qint_tags": [1, 2], "edge_dropout": 0.1}
    backbone |= {"rbf": {"name": "gaussian"}, "rbf_spherical": None}
    backbone |= {"activation": "scaled_silu", "envelope": {"exponent": 5}}
    tasks = [
        {
            "name": name,
            "train_dataset": {"src": Path("data") / name, "lin_ref": None},
            "node_energy_reduction": "sum",
            "normalization": {
                "y": {"mean": 0.5, "std": 2.0 + i},
                "force": {"mean": 0.0, "std": 3.0 + i},
            },
        }
        for i, name in enumerate(TASKS)
    ]
    return {
        "epoch": 4,
        "state_dict": raw | counters,
        "optimizer_states": [
            {
                "opt": {"state": moments, "param_groups": [{"betas": (0.9, 0.95)}]},
                "ema": tuple(average[name] + 0 for name in names),
                "current_step": 9,
            }
        ],
        "hyper_parameters": {
            "backbone": backbone,
            "embedding": {"num_elements": 120, "embedding_size": 8},
            "output": {"num_mlps": 5},
            "tasks": tasks,
        },
    }


Change = Callable[[dict[str, Any]], Any]


def write(path: Path, change: Change | None = None) -> Path:
    content = checkpoint()
    if change:
        change(content)
    torch.save(content, path)
    return path


def write_tiny(tmp_path: Path, change: Change | None = None) -> Path:
    return write(tmp_path / "own.pt", change)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("published") / "own.pt")


@pytest.mark.parametrize("ema", SETS)
def test_weights_are_raw_or_averaged_as_asked(file: Path, ema: published.Ema) -> None:
    loaded = load_published(file, ema=ema)
    raw, average = tiny_model(0), tiny_model(1)
    is_parameter = dict(raw.named_parameters()).keys()
    found = loaded.state_dict()
    assert found.keys() == raw.state_dict().keys()
    for name, value in found.items():
        is_mixed = "outputs" in name and (".dense_in." in name or ".residuals." in name)
        is_raw = (
            ema == "none" or name not in is_parameter or (ema == "paper" and is_mixed)
        )
        source = raw if is_raw else average
        assert torch.equal(value, source.state_dict()[name]), name


def test_scales_are_those_of_the_stored_configuration(file: Path) -> None:
    heads = list(load_published(file).heads.values())
    assert [h.energy_scale for h in heads] == [2.0, 3.0, 4.0, 5.0]
    assert [h.force_scale for h in heads] == [3.0, 4.0, 5.0, 6.0]
    assert [h.energy_shift for h in heads] == [0.5] * 4


def normalization(value: Any) -> Change:
    return lambda c: [
        t.update(normalization=value) for t in c["hyper_parameters"]["tasks"]
    ]


@pytest.mark.parametrize("value", [None, {}, {"y": None}])
def test_scales_are_the_published_ones_where_the_file_has_none(
    tmp_path: Path, value: Any
) -> None:
    heads = load_published(write_tiny(tmp_path, normalization(value))).heads
    for name, task in TASKS.items():
        assert heads[name].energy_scale == task.energy_scale
        assert heads[name].force_scale == task.force_scale
        assert heads[name].energy_shift == 0.0


def test_a_file_without_scales_of_one_quantity_keeps_the_other(tmp_path: Path) -> None:
    value = {"y": {"mean": 0.0, "std": 7.0}}
    head = load_published(write_tiny(tmp_path, normalization(value))).heads["oc20"]
    assert head.energy_scale == 7.0
    assert head.force_scale == TASKS["oc20"].force_scale


def test_published_heads_state_what_they_are(file: Path) -> None:
    heads = load_published(file).heads
    for head in heads.values():
        assert head.forces == "direct"
        assert head.has_direct_forces
        assert head.references is None
        assert head.licence == "CC-BY-NC-4.0"
    assert heads["transition1x"].elements == (1, 6, 7, 8)
    assert "RPBE" in heads["oc20"].level_of_theory


def test_info_names_file_licence_and_paper(file: Path) -> None:
    info = load_published(file, ema="paper").info
    assert (info["name"], info["licence"]) == ("own", "CC-BY-NC-4.0")
    assert "2310.16802" in info["citation"]
    assert info["training"] == {"tasks": list(TASKS), "ema": "paper"}
    assert (info["path"], info["weights_sha256"]) == (str(file), file_hash(file))


def test_a_published_model_can_be_kept_as_a_weights_file(
    file: Path, tmp_path: Path
) -> None:
    model = load_published(file)
    save_weights(model, tmp_path / "own.safetensors")
    again = load_weights(tmp_path / "own.safetensors")
    assert again.heads == model.heads
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_rules_in_the_file_come_before_the_table(tmp_path: Path) -> None:
    settings = {"absolute_rbf_cutoff": 10, "qint_tags": [2]}
    path = write_tiny(
        tmp_path, lambda c: c["hyper_parameters"]["backbone"].update(settings)
    )
    graph = load_published(path).heads["oc20"].graph
    assert (graph.radial_cutoff, graph.quadruplet_tags) == (10.0, (2,))


def test_mean_over_atoms_is_taken_from_the_file(tmp_path: Path) -> None:
    path = write_tiny(
        tmp_path,
        lambda c: c["hyper_parameters"]["tasks"][1].update(
            node_energy_reduction="mean"
        ),
    )
    heads = load_published(path).heads
    assert (heads["oc22"].reduction, heads["oc20"].reduction) == ("mean", "sum")


def test_a_file_without_configuration_is_one_of_the_known_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny(tmp_path, lambda c: c.pop("hyper_parameters"))
    monkeypatch.setattr(published, "S", TINY)
    model = load_published(path)
    assert model.config == TINY
    assert list(model.heads) == list(TASKS)


def test_optimizer_moments_are_never_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    numbers = TorchArchive.numbers

    def note(self: TorchArchive, key: str, dtype: torch.dtype, n: int) -> torch.Tensor:
        read.append(n)
        return numbers(self, key, dtype, n)

    monkeypatch.setattr(TorchArchive, "numbers", note)
    model = load_published(file)
    assert 50 not in read  # the size of every exp_avg in the file
    n_ours = sum(v.numel() for v in model.state_dict().values())
    assert sum(read) < 2.5 * n_ours  # raw with its aliases, and the averages


def test_the_model_does_not_hold_on_to_the_file(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.pt"
    path.write_bytes(file.read_bytes())
    model = load_published(path)
    with path.open("r+b") as handle:
        handle.write(b"\xff" * path.stat().st_size)
    expected = load_published(file).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    def halve(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        content["state_dict"] = {k: v.half() for k, v in state.items()}

    model = load_published(write_tiny(tmp_path, halve), ema="none")
    assert model.dtype == torch.float32
    assert torch.equal(
        model.embedding.weight, tiny_model(0).embedding.weight.half().float()
    )


HEAD = "output.out_energy.0.0"


def test_a_mixture_of_precisions_becomes_the_best_of_them(tmp_path: Path) -> None:
    def mix(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        for name, dtype in (
            ("embedding.atom_embedding", torch.half),
            (HEAD, torch.double),
        ):
            state[f"{name}.weight"] = state[f"{name}.weight"].to(dtype)

    model = load_published(write_tiny(tmp_path, mix), ema="none")
    assert {v.dtype for v in model.state_dict().values()} == {torch.float64}


def backbone(**settings: Any) -> Change:
    return lambda c: c["hyper_parameters"]["backbone"].update(settings)


def task(**settings: Any) -> Change:
    return lambda c: c["hyper_parameters"]["tasks"][0].update(settings)


def deep_list() -> list[Any]:
    """Text of this list would fill any memory, though it has 60 small parts."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("state_dict"), "no 'state_dict' with named tensors"),
        (lambda c: c["state_dict"].update(x=1), "no 'state_dict' with named tensors"),
        (
            lambda c: c["state_dict"].pop("embedding.atom_embedding.weight"),
            r"not weights of JMP pre-training.*not among backbone\.",
        ),
        (
            lambda c: c["state_dict"].update(scale_factor=torch.ones(1)),
            "1 names are not those of a published JMP model: scale_factor",
        ),
        (lambda c: c.pop("optimizer_states"), r"no running average.*ema='none' takes"),
        (
            lambda c: c["optimizer_states"][0].update(ema=()),
            "holds no running average",
        ),
        (
            lambda c: c["optimizer_states"][0].update(ema=(torch.ones(1),)),
            r"the 1 running averages \(EMA\) do not fit the \d+ parameters",
        ),
        (lambda c: c.update(optimizer_states=[3]), "holds no running average"),
        (backbone(cbf={"name": "other"}), "built with cbf.name='other'; only 'spher"),
        (backbone(scale_basis=True), "built with scale_basis=True; only False"),
        (backbone(rbf_spherical={"name": "bessel"}), "rbf_spherical.name='bessel'"),
        (backbone(activation=deep_list()), r"activation=\[\[\["),
        (backbone(num_blocks="1"), "gives num_blocks='1', should be a whole number"),
        (backbone(num_blocks=10**4), "num_blocks=10000 does not go with"),
        (backbone(num_blocks=2), "tensors are missing: backbone.blocks.1"),
        (backbone(emb_size_rbf=7), "have another shape"),
        (backbone(qint_tags=["a"]), r"qint_tags in the file is \['a'\]"),
        (backbone(qint_tags=[3]), r"qint_tags in the file is \[3\].*of 0, 1 and 2"),
        (backbone(qint_tags="12"), r"qint_tags in the file is '12', should be a list"),
        (backbone(absolute_rbf_cutoff=0), "absolute_rbf_cutoff is 0.0, should be posi"),
        (
            lambda c: c["state_dict"].update(
                {k: v.long() for k, v in c["state_dict"].items() if "embedding" in k}
            ),
            r"weights are real numbers, and .*embedding\.weight.* hold whole ones",
        ),
        (backbone(absolute_rbf_cutoff=deep_list()), "absolute_rbf_cutoff in the file"),
        (task(name="qm9"), "a task named 'qm9'; cutoffs are known for oc20, oc22, "),
        (task(name="oc22"), "a task named 'oc22'.*each once"),
        (task(name=["a"]), r"a task named \['a'\]"),
        (task(node_energy_reduction="max"), "the reduction 'max'; allowed are 0, and"),
        (task(normalization={"force": {"mean": 1.0}}), "a force mean of 1.0"),
        (task(normalization={"y": {"std": 0}}), "std of y is 0.0, should be positive"),
        (task(normalization={"y": {"mean": float("nan")}}), "mean of y in the file is"),
        (task(normalization={"y": {"std": "2"}}), "std of y in the file is '2', not a"),
        (task(normalization={"y": {"mean": 10**400}}), "mean of y in the file is 1000"),
        (
            lambda c: c["hyper_parameters"]["tasks"].pop(),
            "belongs to task 3, but only 3 task names are known",
        ),
        (lambda c: c.pop("hyper_parameters"), "only the sizes S and L are known"),
    ],
)
def test_a_file_that_does_not_make_sense_is_refused(
    tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"own\.pt: .*{message}"):
        load_published(write_tiny(tmp_path, change))


def test_a_permuted_average_is_noticed_by_its_shape(tmp_path: Path) -> None:
    def swap(content: dict[str, Any]) -> None:
        optimizer = content["optimizer_states"][0]
        optimizer["ema"] = optimizer["ema"][::-1]

    with pytest.raises(CheckpointError, match="in number, shape or precision"):
        load_published(write_tiny(tmp_path, swap))


def test_second_names_must_hold_the_same_numbers(tmp_path: Path) -> None:
    name = "backbone.out_blocks.0.seq_energy_pre.0.linear.weight"

    def change(content: dict[str, Any]) -> None:
        content["state_dict"][name] = content["state_dict"][name] + 1

    with pytest.raises(CheckpointError, match=f"{name}.*should hold the same numbers"):
        load_published(write_tiny(tmp_path, change))


def test_an_unknown_choice_of_average_lists_the_choices() -> None:
    with pytest.raises(ArgumentError, match=r"ema is 'ful'; choose one.*mean 'full'"):
        published.check_ema("ful")
    assert published.check_ema("paper") == "paper"


def test_a_file_without_average_is_read_without_it(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, lambda c: c.pop("optimizer_states"))
    found = load_published(path, ema="none").state_dict()
    raw = tiny_model(0).state_dict()
    assert all(torch.equal(value, raw[name]) for name, value in found.items())


class Bomb:
    """Runs a command when unpickled by anything that trusts its file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return (os.system, (self.command,))


@pytest.mark.parametrize(
    "place",
    [
        lambda c, bomb: c.update(bomb=bomb),
        lambda c, bomb: c["state_dict"].update(bomb=bomb),
        lambda c, bomb: c["hyper_parameters"].update(environment=[{"a": (bomb,)}]),
        lambda c, bomb: c["optimizer_states"][0].update(ema=bomb),
        lambda c, bomb: c["optimizer_states"][0]["opt"].update(state={0: bomb}),
    ],
)
def test_a_bomb_in_the_published_layout_does_nothing(
    tmp_path: Path, place: Callable[[dict[str, Any], Bomb], Any]
) -> None:
    bomb = Bomb(f"touch {tmp_path / 'canary'}")
    path = write_tiny(tmp_path, lambda c: place(c, bomb))
    with pytest.raises(CheckpointError, match=r"own\.pt.*system, which is code"):
        load_published(path)
    assert not (tmp_path / "canary").exists()


def test_a_truncated_download_is_damaged(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.pt"
    path.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"part\.pt is damaged"):
        load_published(path)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        load_published(tmp_path / "absent.pt")


def test_a_hash_that_is_known_is_taken_and_the_file_is_not_read_for_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: Path) -> str:
        raise AssertionError("the file was hashed")

    monkeypatch.setattr("jmp_calc.models.published.file_hash", never)
    assert load_published(file, sha256="ab").info["weights_sha256"] == "ab"
