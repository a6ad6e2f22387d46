"""OC20 and OC22 in small files of the published layouts (there are no real ones)."""

from __future__ import annotations

import json
import lzma
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.layouts.xz_frames import read_references
from toys.published_materials import (
    pickled_data,
    s2ef_text,
    slab_fields,
    slab_frames,
    write_lmdb,
    write_s2ef,
)
from toys.sources import entries, open_family, records, skipped

# -- pairs of text files ---------------------------------------------------------------


def test_the_toy_file_is_what_ase_reads_as_extended_xyz(tmp_path) -> None:
    """Otherwise the tests below would show nothing about published files."""
    frames = slab_frames(2)
    (tmp_path / "0.extxyz").write_text(s2ef_text(frames))
    read = ase.io.read(tmp_path / "0.extxyz", ":")
    assert [atoms.get_potential_energy() for atoms in read] == [-100.0, -101.0]
    assert read[0].constraints[0].index.tolist() == list(range(8))


def test_a_frame_becomes_a_sample_with_the_total_energy(tmp_path) -> None:
    frames = slab_frames(3)
    write_s2ef(tmp_path / "s2ef_train_200K", 0, frames)
    (source,) = open_family("oc20", tmp_path)
    found = records(source)
    sample = found[2].sample
    assert (sample.energy, sample.group, sample.name) == (
        -102.0,
        "random1",
        "random1/frame2",
    )
    np.testing.assert_allclose(sample.positions, frames[2].positions, atol=1e-8)
    np.testing.assert_allclose(sample.cell, frames[2].cell.array, atol=1e-12)
    np.testing.assert_array_equal(sample.forces, frames[2].arrays["forces"])
    assert sample.numbers.tolist() == frames[2].numbers.tolist()
    assert sample.tags.tolist() == [0] * 8 + [1] * 4 + [2] * 2
    assert sample.is_fixed.tolist() == [True] * 8 + [False] * 6
    assert sample.pbc.all()
    names = [path.name for path in source.inputs(source.parts()[0])]
    assert names == ["0.extxyz.xz", "0.txt.xz"]


def test_the_adsorption_energy_is_the_total_minus_the_reference(tmp_path) -> None:
    write_s2ef(tmp_path, 0, slab_frames(2))
    (source,) = open_family("oc20", tmp_path, energy="adsorption")
    assert [r.sample.energy for r in records(source)] == [-10.0, -11.0]
    assert source.facts.name == "oc20-adsorption"


def test_parts_follow_the_names_of_the_published_folders(tmp_path) -> None:
    for k, name in enumerate(("s2ef_train_2M", "s2ef_val_id", "s2ef_val_ood_ads")):
        write_s2ef(tmp_path / name / name, k, slab_frames(1))
    write_s2ef(tmp_path / "s2ef_test_lmdbs", 7, slab_frames(1))
    (source,) = open_family("oc20", tmp_path)
    assert [(r.sample.group, r.split) for r in records(source)] == [
        ("random0", "train"),
        ("random10", "val"),
        ("random20", "test"),
    ]


def test_a_folder_of_another_name_is_of_the_part_that_the_user_says(tmp_path) -> None:
    write_s2ef(tmp_path / "mine", 0, slab_frames(1))
    (unsaid,) = open_family("oc20", tmp_path)
    (said,) = open_family("oc20", tmp_path, split="val")
    assert [r.split for r in records(unsaid) + records(said)] == [None, "val"]


def test_pairs_are_parts_in_the_order_of_their_numbers(tmp_path) -> None:
    for k in (10, 9, 0):
        write_s2ef(tmp_path, k, slab_frames(1))
    (source,) = open_family("oc20", tmp_path)
    assert source.parts() == ["0.extxyz.xz", "9.extxyz.xz", "10.extxyz.xz"]


def test_of_several_sizes_one_must_be_chosen(tmp_path) -> None:
    for k, size in enumerate(("200K", "2M")):
        write_s2ef(tmp_path / f"s2ef_train_{size}", k, slab_frames(1))
    write_s2ef(tmp_path / "s2ef_val_id", 5, slab_frames(1))
    with pytest.raises(ArgumentError, match="several sizes, 200K, 2M; choose one"):
        open_family("oc20", tmp_path)
    with pytest.raises(ArgumentError, match="no training part of size '20M'; it has"):
        open_family("oc20", tmp_path, variant="20M")
    (source,) = open_family("oc20", tmp_path, variant="2M")
    assert source.parts() == [
        "s2ef_train_2M/1.extxyz.xz",
        "s2ef_val_id/5.extxyz.xz",
    ]


def test_frames_with_large_forces_are_skipped_if_asked_for(tmp_path) -> None:
    frames = slab_frames(2)
    frames[1].arrays["forces"][3] = [0.0, 60.0, 80.0]
    write_s2ef(tmp_path, 0, frames)
    (source,) = open_family("oc20", tmp_path, max_force=99.0)
    assert [(s.where, s.reason) for s in skipped(source)] == [
        ("random0/frame1", "force above 99 eV/Å")
    ]


@pytest.mark.parametrize("n_lines", [1, 3], ids=["fewer lines", "more lines"])
def test_files_of_different_length_are_an_error(n_lines, tmp_path) -> None:
    write_s2ef(tmp_path, 0, slab_frames(2), n_lines=n_lines)
    (source,) = open_family("oc20", tmp_path)
    short = (
        r"0\.txt\.xz ends after 1" if n_lines == 1 else r"0\.extxyz\.xz ends after 2"
    )
    with pytest.raises(DataError, match=f"{short} frames and .* goes on"):
        records(source)


def test_a_folder_without_pairs_and_lmdb_files_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no \.lmdb files; give a folder of k\.ex"):
        open_family("oc20", tmp_path)


def test_a_truncated_archive_names_file_and_frame_after_what_is_whole(
    tmp_path,
) -> None:
    path = write_s2ef(tmp_path, 0, slab_frames(400))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    (source,) = open_family("oc20", tmp_path)
    found = []
    with pytest.raises(
        DataError, match=r"frame \d+ of .*0\.extxyz\.xz cannot be read.*cut off"
    ):
        found.extend(source.read("0.extxyz.xz"))
    assert 0 < len(found) < 400


def test_a_damaged_frame_is_named(tmp_path) -> None:
    path = write_s2ef(tmp_path, 0, slab_frames(2))
    text = lzma.decompress(path.read_bytes()).decode()
    with lzma.open(path, "wt") as file:
        file.write(text.replace("energy=-101.0", "energy=none"))
    (source,) = open_family("oc20", tmp_path)
    with pytest.raises(DataError, match=r"frame 1 of .*\.extxyz\.xz is cut off or not"):
        records(source)


def test_a_file_of_frames_without_lines_is_an_error(tmp_path) -> None:
    write_s2ef(tmp_path, 3, slab_frames(1))
    (tmp_path / "3.txt.xz").unlink()
    with pytest.raises(DataError, match=r"3\.extxyz\.xz has no 3\.txt\.xz beside it"):
        open_family("oc20", tmp_path)


def test_an_unknown_energy_is_an_error(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="energy is 'free'; choose one of total"):
        open_family("oc20", tmp_path, energy="free")


# -- LMDB ------------------------------------------------------------------------------


def write_oc_lmdb(path: Path, n: int = 2, **fields: object) -> Path:
    packed = [
        pickled_data({**slab_fields(atoms, sid=40 + i, fid=i), **fields})
        for i, atoms in enumerate(slab_frames(n))
    ]
    return write_lmdb(path, packed)


def test_lmdb_files_of_oc20_need_a_word_about_their_energies(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb")
    with pytest.raises(DataError, match="do not say whether y is the adsorption"):
        open_family("oc20", tmp_path)


def test_references_turn_adsorption_energies_into_total_ones(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb")
    references = tmp_path / "references.json"
    references.write_text(json.dumps({"random40": -500.0, "random41": -600.0}))
    (source,) = open_family("oc20", tmp_path, references=references)
    assert [r.sample.energy for r in records(source)] == [-600.0, -701.0]


def test_a_system_without_reference_is_named(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb")
    references = tmp_path / "references.json"
    references.write_text(json.dumps({"random40": -500.0}))
    (source,) = open_family("oc20", tmp_path, references=references)
    with pytest.raises(DataError, match=r"record 1 of .* is of system 41, which"):
        records(source)


def test_references_are_read_from_pairs_json_and_pickle(tmp_path) -> None:
    folder = tmp_path / "s2ef_train_200K"
    write_s2ef(folder, 0, slab_frames(4))
    known = {"random0": -90.0, "random1": -90.0}
    (tmp_path / "r.json").write_text(json.dumps(known))
    (tmp_path / "r.pkl").write_bytes(
        pickle.dumps({name: np.float64(value) for name, value in known.items()})
    )
    for source in (
        folder,
        folder / "0.txt.xz",
        tmp_path / "r.json",
        tmp_path / "r.pkl",
    ):
        assert read_references(source) == known


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", b"[1]", "must map the name of each system"),
        ("r.json", b'{"random1": ', "is damaged"),
        ("r.pkl", b"cos\nsystem\n.", "names os.system, which is not in the list"),
        ("r.txt", b"random1\n", "line 0 of .*must hold system_id"),
    ],
    ids=["list", "broken JSON", "code", "broken line"],
)
def test_a_file_that_holds_no_references_is_an_error(
    name, content, message, tmp_path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_references(tmp_path / name)


def test_references_and_adsorption_energies_exclude_each_other(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb")
    with pytest.raises(ArgumentError, match="not both"):
        open_family("oc20", tmp_path, energy="adsorption", references=tmp_path)


def test_parts_of_oc22_follow_its_folders_and_tests_have_no_labels(tmp_path) -> None:
    for name in ("train", "val_id", "val_ood"):
        write_oc_lmdb(tmp_path / "s2ef-total" / name / "data.0000.lmdb", 1)
    for name in ("test_id", "test_ood"):
        write_oc_lmdb(
            tmp_path / "s2ef-total" / name / "data.0000.lmdb", 1, y=None, force=None
        )
    (source,) = open_family("oc22", tmp_path / "s2ef-total")
    assert [entry.split for entry in entries(source)] == ["train", "val", "test"]


def test_oc22_falls_back_to_the_energy_of_the_relaxed_system(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb", 1, y=None, y_relaxed=-7.0)
    (source,) = open_family("oc22", tmp_path)
    assert [r.sample.energy for r in records(source)] == [-7.0]


def test_the_energy_of_the_relaxed_system_is_no_label_of_an_unrelaxed_one(
    tmp_path,
) -> None:
    write_oc_lmdb(tmp_path / "data.lmdb", 1, y=None, force=None, y_relaxed=-7.0)
    (source,) = open_family("oc22", tmp_path)
    (skipped,) = entries(source)
    assert skipped.reason.startswith("the energy is that of the relaxed system")


def test_a_folder_of_published_tests_alone_is_an_error(tmp_path) -> None:
    write_oc_lmdb(tmp_path / "test_id" / "data.0000.lmdb", 1)
    (source,) = open_family("oc22", tmp_path)
    with pytest.raises(DataError, match="holds only a published test part"):
        source.parts()


@pytest.mark.parametrize("name", ["oc20", "oc22"])
def test_a_folder_that_does_not_exist_is_an_error(name, tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nowhere; give"):
        open_family(name, tmp_path / "nowhere")
