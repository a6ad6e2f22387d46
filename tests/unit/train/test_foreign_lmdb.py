from __future__ import annotations

import os
import pickle

import lmdb
import numpy as np
import pytest
import torch

from jmp_calc.errors import DataError
from jmp_train.data.layouts.pyg_record import read_record
from toys.published_materials import (
    pickled_data,
    slab_fields,
    slab_frames,
    write_lmdb,
)
from toys.sources import entries, open_family, real, records


class Evil:
    """Runs a command when it is unpickled in the ordinary way."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


# -- pickles ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_old", [False, True], ids=["store", "before 2.0"])
def test_both_layouts_of_torch_geometric_give_the_same_fields(is_old) -> None:
    fields = {"pos": torch.arange(6.0).reshape(2, 3), "y": -1.5, "sid": "a", "x": None}
    read = read_record(pickled_data(fields, is_old=is_old))
    np.testing.assert_array_equal(read.pop("pos"), [[0, 1, 2], [3, 4, 5]])
    assert read == {"y": -1.5, "sid": "a", "x": None}


def test_an_object_of_the_installed_torch_geometric_is_read() -> None:
    from torch_geometric.data import Data

    data = Data(pos=torch.eye(3), y=torch.tensor([2.5]), sid=7)
    read = read_record(pickle.dumps(data))
    np.testing.assert_array_equal(read["pos"], np.eye(3))
    assert (read["y"].tolist(), read["sid"]) == ([2.5], 7)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).reshape(3, 4).T,
        torch.arange(10.0, dtype=torch.float64)[2:8:3],
        torch.tensor([True, False]),
        torch.tensor(3.5),
        torch.zeros(0, 3),
        torch.ones(2, dtype=torch.float16).expand(2),
    ],
    ids=["transposed", "slice", "bool", "scalar", "empty", "half"],
)
def test_a_tensor_is_read_as_it_was(tensor) -> None:
    read = read_record(pickle.dumps({"x": tensor}))["x"]
    np.testing.assert_array_equal(read, tensor.numpy())
    assert read.dtype == tensor.numpy().dtype


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.eye(2, 3)),
        np.arange(3, dtype=">i4"),
    ],
    ids=["rows", "columns", "big-endian"],
)
def test_a_numpy_array_is_read_as_it_was(array, protocol) -> None:
    read = read_record(pickle.dumps({"x": array, "y": array.ravel()[1]}, protocol))
    np.testing.assert_array_equal(read["x"], array)
    assert read["y"] == array.ravel()[1]


def test_code_in_a_record_is_refused_and_not_run(tmp_path) -> None:
    with pytest.raises(DataError, match=r"names posix\.system, which is not in the l"):
        read_record(pickled_data({"y": Evil(tmp_path / "ran")}))
    assert not (tmp_path / "ran").exists()


def test_code_within_the_numbers_of_a_tensor_is_refused_and_not_run(tmp_path) -> None:
    """Ordinary unpickling would hand these bytes to ``torch.load``."""
    hidden = pickle.dumps(Evil(tmp_path / "ran"), protocol=2)
    outer = (
        b"\x80\x02}X\x01\x00\x00\x00xctorch.storage\n_load_from_bytes\nB"
        + len(hidden).to_bytes(4, "little")
        + hidden
        + b"\x85Rs."
    )
    with pytest.raises(DataError, match=r"its numbers are of type posix\.system"):
        read_record(outer)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_is_not_listed_is_refused() -> None:
    data = b"\x80\x02csklearn.tree\nTree\n)\x81."
    with pytest.raises(
        DataError, match=r"names sklearn\.tree\.Tree, which is not in the list"
    ):
        read_record(data)


def test_a_tensor_beyond_its_numbers_is_an_error() -> None:
    data = pickle.dumps({"x": torch.arange(4.0)})
    assert data.count(b"K\x04\x85") == 1
    with pytest.raises(DataError, match=r"shape \(9,\) reaches beyond the 4 numbers"):
        read_record(data.replace(b"K\x04\x85", b"K\x09\x85"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a pickle", "is damaged"),
        (pickle.dumps([1, 2]), "it is a list, not a record with fields"),
        (pickle.dumps({"x": torch.arange(99.0)})[:-40], "is damaged"),
        (pickle.dumps({"x": np.array([object()])}), "numpy array of type 'O8'"),
    ],
    ids=["noise", "list", "cut off", "array of objects"],
)
def test_a_damaged_or_strange_record_is_an_error(data, message) -> None:
    with pytest.raises(DataError, match=message):
        read_record(data)


def test_a_record_that_grows_without_end_is_an_error() -> None:
    """A hundred bytes that would be a list of 1e30 entries."""
    value: object = 0.0
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(DataError, match="repeats its parts without end"):
        read_record(pickle.dumps({"pos": value}))


# -- files -----------------------------------------------------------------------------


def slab_records(n: int, **fields: object) -> list[bytes]:
    return [
        pickled_data({**slab_fields(atoms, sid=i // 2, fid=i), **fields})
        for i, atoms in enumerate(slab_frames(n))
    ]


def test_a_record_becomes_a_sample_with_its_labels_and_masks(tmp_path) -> None:
    (atoms,) = slab_frames(1)
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(1))
    (source,) = open_family("pyg-lmdb", path)
    (record,) = records(source)
    sample = record.sample
    assert (sample.energy, sample.group, sample.name) == (-100.0, "0", "0/frame0")
    np.testing.assert_allclose(sample.positions, atoms.positions, atol=1e-5)
    np.testing.assert_allclose(sample.forces, atoms.arrays["forces"], atol=1e-6)
    assert sample.numbers.tolist() == atoms.numbers.tolist()
    assert sample.is_fixed.tolist() == (atoms.get_tags() == 0).tolist()
    assert sample.pbc.all()
    assert source.facts.domain == "surface"


def test_a_dummy_cell_means_no_cell(tmp_path) -> None:
    cell = 1000 * torch.eye(3)[None]
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(1, cell=cell, tags=None))
    (source,) = open_family("pyg-lmdb", path)
    (record,) = records(source)
    assert not record.sample.pbc.any()
    assert record.sample.tags.tolist() == [2] * 14
    assert source.facts.domain == "molecule"


def test_shards_are_read_in_the_order_of_their_names(tmp_path) -> None:
    packed = slab_records(4)
    write_lmdb(tmp_path / "data.0001.lmdb", packed[3:])
    write_lmdb(tmp_path / "data.0000.lmdb", packed[:3])
    (source,) = open_family("pyg-lmdb", tmp_path)
    assert source.parts() == ["data.0000.lmdb:0-3", "data.0001.lmdb:0-1"]
    assert [r.sample.energy for r in records(source)] == [-100, -101, -102, -103]


def test_systems_without_or_with_infinite_labels_are_skipped(tmp_path) -> None:
    packed = slab_records(1)
    packed += slab_records(1, y=None, force=None)
    packed += slab_records(1, y=float("nan"))
    path = write_lmdb(tmp_path / "a.lmdb", packed)
    (source,) = open_family("pyg-lmdb", path)
    reasons = [getattr(entry, "reason", "") for entry in entries(source)]
    assert reasons == ["", "no label", "a label that is not finite"]


def test_a_field_that_no_record_has_names_those_that_there_are(tmp_path) -> None:
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(1))
    with pytest.raises(
        DataError, match=r"have no field 'gap'; the first one holds atomic_numbers, cel"
    ):
        open_family("pyg-lmdb", path, targets=("gap:eV",))


def test_a_damaged_record_names_file_and_record(tmp_path) -> None:
    packed = slab_records(3)
    packed[1] = packed[1][:100]
    path = write_lmdb(tmp_path / "a.lmdb", packed)
    (source,) = open_family("pyg-lmdb", path)
    read = source.read(source.parts()[0])
    assert next(read).sample.energy == -100
    with pytest.raises(DataError, match=r"record 1 of .*a\.lmdb: it is damaged"):
        next(read)


def test_a_missing_record_names_file_and_record(tmp_path) -> None:
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(2), length=3)
    (source,) = open_family("pyg-lmdb", path)
    with pytest.raises(DataError, match=r"record 2 of .*a\.lmdb is not there"):
        records(source)


def test_a_file_without_length_is_counted(tmp_path) -> None:
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(2))
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.delete(b"length")
    (source,) = open_family("pyg-lmdb", path)
    assert len(records(source)) == 2


def test_a_file_that_is_cut_off_is_an_error_and_no_crash(tmp_path) -> None:
    path = write_lmdb(tmp_path / "a.lmdb", slab_records(20))
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(DataError, match=r"a\.lmdb is cut off: 20000 bytes instead of"):
        open_family("pyg-lmdb", path)


def test_a_file_of_another_kind_is_an_error(tmp_path) -> None:
    (tmp_path / "a.lmdb").write_bytes(b"x" * 10_000)
    with pytest.raises(DataError, match=r"a\.lmdb is not an LMDB file"):
        open_family("pyg-lmdb", tmp_path / "a.lmdb")


def test_a_folder_without_files_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match=r"holds no \.lmdb files; give an LMDB file"):
        open_family("pyg-lmdb", tmp_path)


# -- real files ------------------------------------------------------------------------


def test_the_real_is2re_file_is_read() -> None:
    (source,) = open_family(
        "pyg-lmdb",
        real("ocp_is2re_lmdb"),
        energy_key="y_relaxed",
        targets=("y_init:eV",),
    )
    found = [record.sample for record in records(source)]
    assert len(found) == 38
    assert found[0].energy == pytest.approx(-2.24411175237733)
    assert found[0].targets == {"y_init": pytest.approx(-2.774312430619829)}
    assert min(s.n_atoms for s in found) == 9
    assert max(s.n_atoms for s in found) == 49
    assert source.facts.target_units == {"y_init": "eV"}


def test_the_real_is2re_file_says_which_fields_it_has() -> None:
    with pytest.raises(DataError, match=r"it holds atomic_numbers, cell, .*y_relaxed"):
        open_family("pyg-lmdb", real("ocp_is2re_lmdb"))


def test_the_real_reaction_path_file_is_read_as_molecules() -> None:
    """Energies and the largest force are those of the index of the excerpts."""
    (source,) = open_family("pyg-lmdb", real("transition1x_horm", "sample.lmdb"))
    found = [record.sample for record in records(source)]
    energies = [sample.energy for sample in found]
    assert len(found) == 75
    assert source.facts.domain == "molecule"
    assert min(energies) == pytest.approx(-9873.027, abs=1e-3)
    assert max(energies) == pytest.approx(-6319.803, abs=1e-3)
    largest = max(np.abs(sample.forces).max() for sample in found)
    assert largest == pytest.approx(4.82, abs=0.005)
