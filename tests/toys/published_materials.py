"""Small files of materials in the exact layouts of the published sets."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from toys.slabs import slab_with_co

# -- OC20: pairs of compressed text files ---------------------------------------------


def slab_frames(n: int, *, seed: int = 0) -> list[Atoms]:
    """Rattled slabs with OC20 tags, a fixed bottom, an energy and forces."""
    frames = []
    for index in range(n):
        atoms = slab_with_co()
        atoms.rattle(0.05, seed=seed + index)
        rng = np.random.default_rng([seed, index])
        atoms.set_tags([0] * 8 + [1] * 4 + [2] * 2)
        atoms.info["energy"] = -100.0 - index
        atoms.arrays["forces"] = rng.normal(0, 0.5, (len(atoms), 3)).round(8)
        frames.append(atoms)
    return frames


def s2ef_text(frames: Sequence[Atoms]) -> str:
    """Frames as OC20 writes them: move_mask F holds an atom, T lets it go."""
    lines = []
    for atoms in frames:
        lattice = " ".join(str(value) for value in atoms.cell.array.ravel())
        lines.append(str(len(atoms)))
        lines.append(
            f'Lattice="{lattice}" '
            "Properties=species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3 "
            f"energy={atoms.info['energy']} free_energy={atoms.info['energy']} "
            'pbc="T T T"'
        )
        for symbol, position, tag, force in zip(
            atoms.symbols,
            atoms.positions,
            atoms.get_tags(),
            atoms.arrays["forces"],
            strict=True,
        ):
            words = [f"{value:16.8f}" for value in (*position, *force)]
            mask = "F" if tag == 0 else "T"
            lines.append(
                f"{symbol:<4}{''.join(words[:3])} {mask} {tag:8d}{''.join(words[3:])}"
            )
    return "\n".join(lines) + "\n"


def write_s2ef(
    folder: Path, k: int, frames: Sequence[Atoms], *, n_lines: int | None = None
) -> Path:
    """Write the pair ``k``; every two frames are one system with reference -90 eV."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"random{10 * k + index // 2},frame{index},-90.0"
        for index in range(len(frames) if n_lines is None else n_lines)
    ]
    path = folder / f"{k}.extxyz.xz"
    with lzma.open(path, "wt") as file:
        file.write(s2ef_text(frames))
    with lzma.open(folder / f"{k}.txt.xz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


# -- LMDB files of torch-geometric objects --------------------------------------------


class _Data:
    """Pickled under the name ``torch_geometric.data.data.Data``."""


class _Storage:
    """Pickled under the name ``torch_geometric.data.storage.GlobalStorage``."""


_NAMES = {
    _Data: b"torch_geometric.data.data\nData\n",
    _Storage: b"torch_geometric.data.storage\nGlobalStorage\n",
}


class _Pickler(pickle._Pickler):
    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj in _NAMES:
            self.write(pickle.GLOBAL + _NAMES[obj])
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch = {**pickle._Pickler.dispatch}  # noqa: RUF012 - as in the base class


def pickled_data(fields: Mapping[str, Any], *, is_old: bool = False) -> bytes:
    """A ``Data`` object with these fields, as pickled before or since version 2.0.

    The present layout also points from the store back to the object.
    """
    data = _Data()
    if is_old:
        data.__dict__.update(fields)
    else:
        store = _Storage()
        store.__dict__.update(_mapping=dict(fields), _parent=data)
        data.__dict__["_store"] = store
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(data)
    return buffer.getvalue()


def slab_fields(atoms: Atoms, *, sid: int, fid: int = 0) -> dict[str, Any]:
    """Fields of a record of OC20 or OC22; atomic numbers are stored as floats."""
    return {
        "pos": torch.tensor(atoms.positions, dtype=torch.float32),
        "cell": torch.tensor(atoms.cell.array, dtype=torch.float32)[None],
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=torch.float32),
        "natoms": len(atoms),
        "tags": torch.tensor(atoms.get_tags()),
        "fixed": torch.tensor(atoms.get_tags() == 0, dtype=torch.float32),
        "force": torch.tensor(atoms.arrays["forces"], dtype=torch.float32),
        "y": atoms.info["energy"],
        "sid": sid,
        "fid": fid,
    }


def write_lmdb(
    path: Path, records: Sequence[bytes], *, length: int | None = None
) -> Path:
    """Write records under "0", "1", ... and their number under "length"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, record in enumerate(records):
            transaction.put(str(index).encode(), record)
        n = len(records) if length is None else length
        transaction.put(b"length", pickle.dumps(n))
    return path


# -- JSON with structures as pymatgen writes them -------------------------------------


def structure_dict(atoms: Atoms) -> dict[str, Any]:
    """What ``Structure.as_dict()`` gives."""
    scaled = atoms.get_scaled_positions(wrap=False)
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": None,
        "lattice": {"matrix": atoms.cell.array.tolist(), "volume": atoms.cell.volume},
        "sites": [
            {
                "species": [{"element": symbol, "occu": 1}],
                "abc": scaled[index].tolist(),
                "xyz": atoms.positions[index].tolist(),
                "label": symbol,
                "properties": {},
            }
            for index, symbol in enumerate(atoms.symbols)
        ],
    }


def crystals(n: int) -> list[Atoms]:
    """Rock salt and silicon of several volumes."""
    return [
        bulk("NaCl", "rocksalt", a=5.5 + 0.01 * i)
        if i % 2
        else bulk("Si", a=5 + i / 99)
        for i in range(n)
    ]


def write_matbench(
    path: Path, column: str, values: Sequence[Any], *, systems: Sequence[Any] = ()
) -> Path:
    """Write a task; without structures it has those of :func:`crystals`."""
    structures = systems or [structure_dict(atoms) for atoms in crystals(len(values))]
    table = {
        "index": list(range(len(values))),
        "columns": ["structure", column],
        "data": [[s, v] for s, v in zip(structures, values, strict=True)],
    }
    with gzip.open(path, "wt") as file:
        json.dump(table, file)
    return path


def write_folds(
    folder: Path, folds: Mapping[str, Mapping[str, tuple[Sequence[str], Sequence[str]]]]
) -> Path:
    """Write the file of the official folds, of task -> fold -> (train, test)."""
    splits = {
        task: {
            fold: {"train": list(train), "test": list(test)}
            for fold, (train, test) in parts.items()
        }
        for task, parts in folds.items()
    }
    path = folder / "matbench_v0.1_validation.json"
    path.write_text(json.dumps({"metadata": {"a": [1, 2]}, "splits": splits}))
    return path


def write_qmof(
    folder: Path, gaps: Sequence[float | None], *, order: Sequence[int] | None = None
) -> Path:
    """Write both files; structures come in another order if asked for."""
    names = [f"qmof-{index:07x}" for index in range(len(gaps))]
    entries = [
        {
            "qmof_id": name,
            "name": f"FRAME{index}",
            "info": {"formula": "Si2", "natoms": 2},
            "outputs": {"pbe": {"bandgap": gap, "energy_total": -10.0 - index}},
        }
        for index, (name, gap) in enumerate(zip(names, gaps, strict=True))
    ]
    systems = crystals(len(gaps))
    structures = [
        {"qmof_id": names[index], "structure": structure_dict(systems[index])}
        for index in (range(len(gaps)) if order is None else order)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qmof.json").write_text(json.dumps(entries))
    (folder / "qmof_structure_data.json").write_text(json.dumps(structures))
    return folder
