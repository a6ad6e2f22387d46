from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.layouts.json_rows import open_json, read_json
from jmp_train.data.published import MATBENCH
from toys.published_materials import (
    crystals,
    structure_dict,
    write_folds,
    write_matbench,
)
from toys.sources import entries, open_family, real, records, skipped

# -- rows of JSON ----------------------------------------------------------------------


def items(path: Path) -> list[object]:
    with open_json(path) as stream:
        return [value for _, value in stream.items("row")]


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_values_are_whole_wherever_a_chunk_ends(chunk, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jmp_train.data.layouts.json_rows._CHUNK", chunk)
    content = [
        12,
        -1.5e-3,
        'a"\\u00e5]',
        None,
        True,
        {"k": [1, {"m": "}"}]},
        [],
        "x" * 99,
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    assert items(path) == content


def test_a_gzipped_file_is_recognised_by_its_content(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(b"[1, 2]"))
    assert items(path) == [1, 2]


def test_an_empty_list_has_no_rows(tmp_path) -> None:
    (tmp_path / "a.json").write_text(" [ ] ")
    assert items(tmp_path / "a.json") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[1, {"a": nope}, 3]', r"row 2 of .*a\.json is damaged: Expecting value"),
        (b"[1, [2, 3", r"row 2 of .*a\.json is damaged"),
        (b"[1, 2", r"the end of row 2 of .*a\.json: the file ends before it"),
        (b"[1 2]", r"the end of row 1 of .*: found '2' instead of ',' or '\]'"),
        (b'{"a": 1}', r"the list of rows of .*: found '\{' instead of '\['"),
        (gzip.compress(b"[" + b"1," * 2000)[:-9], r"row \d+ of .* cannot be read"),
    ],
    ids=["syntax", "cut off", "end", "comma", "object", "gzip"],
)
def test_damage_names_file_and_row(content, message, tmp_path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        items(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*a\.json"):
        read_json(tmp_path / "a.json")


# -- tasks and folds -------------------------------------------------------------------


def ids(task: str, rows: list[int], width: int = 4) -> list[str]:
    return [f"mb-{task.replace('_', '-')}-{row + 1:0{width}d}" for row in rows]


def write_task(folder: Path, task: str = "log_gvrh", n: int = 20) -> Path:
    """Values 0.5, 1.5, ...; the last quarter tests in fold 0, the first in fold 1."""
    rows = list(range(n))
    cut = n - n // 4
    write_folds(
        folder,
        {
            "matbench_steels": {"fold_0": (["mb-steels-001"], [])},
            f"matbench_{task}": {
                "fold_0": (ids(task, rows[:cut]), ids(task, rows[cut:])),
                "fold_1": (ids(task, rows[n // 4 :]), ids(task, rows[: n // 4])),
            },
        },
    )
    values = [row + 0.5 for row in rows]
    return write_matbench(
        folder / f"matbench_{task}.json.gz", MATBENCH[task].column, values
    )


def test_a_row_becomes_a_sample_with_its_target(tmp_path) -> None:
    write_task(tmp_path)
    (source,) = open_family("matbench", tmp_path)
    sample = records(source)[3].sample
    atoms = crystals(4)[3]
    np.testing.assert_allclose(sample.positions, atoms.positions, atol=1e-12)
    np.testing.assert_allclose(sample.cell, atoms.cell.array, atol=1e-12)
    assert sample.numbers.tolist() == [11, 17]
    assert sample.targets == {"log10(G_VRH)": 3.5}
    assert (sample.energy, sample.forces) == (None, None)
    assert sample.name == "mb-log_gvrh-0004"
    assert sample.tags.tolist() == [2, 2]
    assert not sample.is_fixed.any()
    assert source.facts.name == "matbench-log_gvrh-fold0"
    assert source.facts.target_units == {"log10(G_VRH)": "log10(GPa)"}


def test_the_official_test_part_tests_and_the_training_part_is_divided(
    tmp_path,
) -> None:
    """The order is that of numpy's generator with seed 42, written out here."""
    write_task(tmp_path)
    (source,) = open_family("matbench", tmp_path)
    split = [record.split for record in records(source)]
    order = np.arange(15)
    np.random.RandomState(42).shuffle(order)
    assert order.tolist() == [9, 11, 0, 13, 5, 8, 2, 1, 14, 4, 7, 10, 12, 3, 6]
    assert split[15:] == ["test"] * 5
    assert [row for row in range(15) if split[row] == "val"] == [3, 6]
    assert split.count("train") == 13


def test_a_fold_is_chosen(tmp_path) -> None:
    write_task(tmp_path)
    (source,) = open_family("matbench", tmp_path, fold=1)
    split = [record.split for record in records(source)]
    assert split[:5] == ["test"] * 5
    # The shuffle is of places in the official list, which starts at row 5 here.
    assert [row for row in range(20) if split[row] == "val"] == [8, 11]
    assert source.facts.name == "matbench-log_gvrh-fold1"


def test_the_order_of_the_official_list_counts(tmp_path) -> None:
    write_task(tmp_path, n=20)
    path = tmp_path / "matbench_v0.1_validation.json"
    folds = json.loads(path.read_text())
    folds["splits"]["matbench_log_gvrh"]["fold_0"]["train"].reverse()
    path.write_text(json.dumps(folds))
    (source,) = open_family("matbench", tmp_path)
    split = [record.split for record in records(source)]
    assert [row for row in range(20) if split[row] == "val"] == [14 - 6, 14 - 3]


def test_all_tasks_of_a_folder_are_read_unless_one_is_chosen(tmp_path) -> None:
    for task in ("phonons", "dielectric"):
        (tmp_path / task).mkdir()
        write_task(tmp_path / task, task)
    folds = [read_json(p) for p in sorted(tmp_path.rglob("matbench_v0.1*"))]
    both = {**folds[0]["splits"], **folds[1]["splits"]}
    for task in ("phonons", "dielectric"):
        path = tmp_path / task / "matbench_v0.1_validation.json"
        path.write_text(json.dumps({"splits": both}))
    found = open_family("matbench", tmp_path)
    (chosen,) = open_family("matbench", tmp_path, variant="phonons")
    assert [source.task for source in found] == ["dielectric", "phonons"]
    assert chosen.task == "phonons"


def test_a_class_is_its_number(tmp_path) -> None:
    names = ids("mp_is_metal", [0, 1, 2], 6)
    write_folds(tmp_path, {"matbench_mp_is_metal": {"fold_0": (names[:2], names[2:])}})
    write_matbench(
        tmp_path / "matbench_mp_is_metal.json.gz", "is_metal", [True, False, True]
    )
    (source,) = open_family("matbench", tmp_path)
    assert [r.sample.targets["is_metal"] for r in records(source)] == [1.0, 0.0, 1.0]


def test_parts_together_are_the_whole(tmp_path, monkeypatch) -> None:
    write_task(tmp_path)
    (source,) = open_family("matbench", tmp_path)
    whole = [record.sample.name for record in records(source)]
    ranges = ["0-7", "7-14", "14-20"]
    read = [r.sample.name for part in ranges for r in source.read(part)]
    assert read == whole


@pytest.mark.parametrize("value", [None, float("nan")], ids=["null", "NaN"])
def test_a_row_without_value_is_skipped(value, tmp_path) -> None:
    write_task(tmp_path, n=4)
    write_matbench(
        tmp_path / "matbench_log_gvrh.json.gz", "log10(G_VRH)", [1.0, value, 2.0, 3.0]
    )
    (source,) = open_family("matbench", tmp_path)
    assert [entry.where for entry in skipped(source)] == ["mb-log_gvrh-0002"]


def test_a_partly_occupied_site_is_an_error_that_names_it(tmp_path) -> None:
    write_task(tmp_path, n=4)
    systems = [structure_dict(atoms) for atoms in crystals(4)]
    systems[2]["sites"][1]["species"] = [
        {"element": "Si", "occu": 0.5},
        {"element": "Ge", "occu": 0.5},
    ]
    write_matbench(
        tmp_path / "matbench_log_gvrh.json.gz",
        "log10(G_VRH)",
        [1.0] * 4,
        systems=systems,
    )
    (source,) = open_family("matbench", tmp_path)
    with pytest.raises(
        DataError, match=r"row 3 of .*: site 1 holds Si 0\.5, Ge 0\.5; only sites that"
    ):
        records(source)


def test_oxidation_states_and_deuterium_are_understood(tmp_path) -> None:
    write_task(tmp_path, n=4)
    systems = [structure_dict(atoms) for atoms in crystals(4)]
    systems[0]["sites"][0]["species"] = [
        {"element": "D", "oxidation_state": 1.0, "occu": 1.0}
    ]
    del systems[0]["sites"][0]["xyz"]
    write_matbench(
        tmp_path / "matbench_log_gvrh.json.gz",
        "log10(G_VRH)",
        [1.0] * 4,
        systems=systems,
    )
    (source,) = open_family("matbench", tmp_path)
    assert records(source)[0].sample.numbers.tolist() == [1, 14]


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"sites": []}, r"row 1 of .*: not a structure as pymatgen writes it"),
        ("Si2", r"row 1 of .*: not a structure as pymatgen writes it"),
    ],
    ids=["no lattice", "text"],
)
def test_a_strange_structure_is_an_error(system, message, tmp_path) -> None:
    write_task(tmp_path, n=4)
    write_matbench(
        tmp_path / "matbench_log_gvrh.json.gz",
        "log10(G_VRH)",
        [1.0] * 4,
        systems=[system] * 4,
    )
    (source,) = open_family("matbench", tmp_path)
    with pytest.raises(DataError, match=message):
        records(source)


def test_a_truncated_file_names_the_row_after_what_is_whole(tmp_path) -> None:
    path = write_task(tmp_path, n=20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    (source,) = open_family("matbench", tmp_path)
    found = []
    with pytest.raises(DataError, match=r"row \d+ of .*gz cannot be read .*fetch it"):
        found.extend(source.read("0-20"))
    assert 0 < len(found) < 20


def test_fewer_rows_than_the_index_has_are_an_error(tmp_path) -> None:
    path = write_task(tmp_path, n=4)
    table = json.loads(gzip.decompress(path.read_bytes()))
    table["data"].pop()
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    (source,) = open_family("matbench", tmp_path)
    with pytest.raises(DataError, match=r"has 3 rows; its index has 4"):
        entries(source)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1, 2], [3], "the official folds have 3 rows and .* has 4"),
        ([1, 2, 3, 4], [5], "row 5 of .* is not in the file"),
        ([1, 2, 3], [3, 4], "row 3 of .* is in two parts"),
    ],
    ids=["too few", "too many", "twice"],
)
def test_folds_that_do_not_fit_are_an_error(train, test, message, tmp_path) -> None:
    write_task(tmp_path, n=4)
    parts = [[f"mb-log-gvrh-{row:05d}" for row in rows] for rows in (train, test)]
    write_folds(tmp_path, {"matbench_log_gvrh": {"fold_0": tuple(parts)}})
    with pytest.raises(DataError, match=message):
        open_family("matbench", tmp_path)


def test_the_file_of_folds_must_be_there(tmp_path) -> None:
    write_task(tmp_path)
    (tmp_path / "matbench_v0.1_validation.json").unlink()
    with pytest.raises(DataError, match=r"has no matbench_v0\.1_validation\.json; the"):
        open_family("matbench", tmp_path)


def test_a_task_that_the_folds_lack_is_an_error(tmp_path) -> None:
    write_task(tmp_path)
    write_folds(tmp_path, {"matbench_phonons": {"fold_0": ([], [])}})
    with pytest.raises(DataError, match="has no folds of the task matbench_log_gvrh"):
        open_family("matbench", tmp_path)


def test_another_column_is_an_error(tmp_path) -> None:
    write_task(tmp_path, n=4)
    write_matbench(tmp_path / "matbench_log_gvrh.json.gz", "K_VRH", [1.0] * 4)
    with pytest.raises(DataError, match=r"has the columns \['structure', 'K_VRH'\]; t"):
        open_family("matbench", tmp_path)


def test_an_unknown_task_or_fold_is_an_error(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown task 'phonon'.*mean 'phonons'"):
        open_family("matbench", tmp_path, variant="phonon")
    with pytest.raises(ArgumentError, match="fold is 5; MatBench has the folds 0 to 4"):
        open_family("matbench", tmp_path, fold=5)
    with pytest.raises(DataError, match="holds no task of MatBench"):
        open_family("matbench", tmp_path)


# -- real file -------------------------------------------------------------------------


def test_the_real_shear_moduli_in_the_layout_of_matbench_are_read(tmp_path) -> None:
    """The mean was computed from the list of moduli beside the file."""
    path = real("elastic_moduli_mp", "log_gvrh_matbench_layout.json.gz")
    shutil.copy(path, tmp_path / "matbench_log_gvrh.json.gz")
    rows = list(range(1500))
    write_folds(
        tmp_path,
        {
            "matbench_log_gvrh": {
                "fold_0": (ids("log_gvrh", rows[:1200]), ids("log_gvrh", rows[1200:]))
            }
        },
    )
    (source,) = open_family("matbench", tmp_path)
    found = records(source)
    moduli = json.loads(
        gzip.decompress(
            real(
                "elastic_moduli_mp", "mp-binary-pbe-elasticity-2025.1.json.gz"
            ).read_bytes()
        )
    )
    values = [record.sample.targets["log10(G_VRH)"] for record in found]
    wanted = np.log10([row["shear_modulus_vrh"] for row in moduli])
    np.testing.assert_allclose(values, wanted, atol=1e-12)
    counts = [[r.split for r in found].count(s) for s in ("train", "val", "test")]
    assert counts == [1080, 120, 300]
