"""Small files of molecules in the exact layouts of the published sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

WATER = (8, 1, 1)
METHANE = (6, 1, 1, 1, 1)
AMMONIA = (7, 1, 1, 1)
METHANOL = (6, 8, 1, 1, 1, 1)


def geometries(
    numbers: Sequence[int], n: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, energies and forces of n frames; the numbers mean nothing."""
    rng = np.random.default_rng([seed, len(numbers), n])
    shape = (n, len(numbers), 3)
    return rng.normal(0, 1, shape), rng.normal(-10, 1, n), rng.normal(0, 0.1, shape)


# -- HDF5 ----------------------------------------------------------------------------


def write_ani1x(
    path: Path, formulas: Mapping[str, tuple[Sequence[int], int]], *, missing: int = 0
) -> Path:
    """Write formulas of (numbers, conformations).

    ``missing`` of the first conformations of each have no ωB97X/6-31G(d) labels;
    CCSD(T) is there for the last conformation only.
    """
    with h5py.File(path, "w") as file:
        for name, (numbers, n) in formulas.items():
            positions, energy, forces = geometries(numbers, n)
            group = file.create_group(name)
            group["atomic_numbers"] = np.array(numbers, dtype=np.uint8)
            group["coordinates"] = positions.astype(np.float32)
            for level in ("wb97x_dz", "wb97x_tz"):
                group[f"{level}.forces"] = forces.astype(np.float32)
            group["wb97x_tz.energy"] = energy - 1
            labelled = energy.copy()
            labelled[:missing] = np.nan
            group["wb97x_dz.energy"] = labelled
            group["ccsd(t)_cbs.energy"] = np.where(
                np.arange(n) == n - 1, energy, np.nan
            )
    return path


def write_transition1x(
    path: Path, reactions: Mapping[str, tuple[str, Sequence[int], int]]
) -> Path:
    """Write reactions ``C2H4O/rxn0001``: (part, numbers, frames)."""
    key = "wB97x_6-31G(d)"
    with h5py.File(path, "w") as file:
        for name, (part, numbers, n) in reactions.items():
            positions, energy, forces = geometries(numbers, n)
            group = file.create_group(f"data/{name}")
            ends = {
                "reactant": slice(0, 1),
                "transition_state": slice(n // 2, n // 2 + 1),
            }
            ends["product"] = slice(n - 1, n)
            for end, rows in {"": slice(0, n), **ends}.items():
                target = group.create_group(end) if end else group
                target["atomic_numbers"] = np.array(numbers)
                target["positions"] = positions[rows]
                target[f"{key}.energy"] = energy[rows]
                target[f"{key}.forces"] = forces[rows]
            file.require_group(part)
            if part != "data":
                file[f"{part}/{name}"] = h5py.SoftLink(f"/data/{name}")
    return path


def write_spice(
    path: Path, molecules: Mapping[str, tuple[str, Sequence[int], int]]
) -> Path:
    """Write molecules: (subset, numbers, conformers)."""
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        for name, (subset, numbers, n) in molecules.items():
            positions, energy, forces = geometries(numbers, n)
            group = file.create_group(name)
            group["smiles"] = np.array([name], dtype=text)
            group["subset"] = np.array([subset], dtype=text)
            group["atomic_numbers"] = np.array(numbers, dtype=np.int16)
            group["conformations"] = positions.astype(np.float32)
            group["dft_total_energy"] = energy
            group["formation_energy"] = energy + 9.0
            group["dft_total_gradient"] = -forces.astype(np.float32)
            group["conformations"].attrs["units"] = "bohr"
    return path


# -- NPZ -----------------------------------------------------------------------------


def write_rmd17(path: Path, *, n: int, numbers: Sequence[int] = WATER) -> Path:
    """Write an archive of rMD17; the energy of frame i is -i kcal/mol."""
    positions, _, forces = geometries(numbers, n)
    np.savez(
        path,
        nuclear_charges=np.array(numbers, dtype=np.uint8),
        coords=positions,
        energies=-np.arange(n, dtype=np.float64),
        forces=forces,
        old_indices=np.arange(n),
        old_energies=np.zeros(n),
        old_forces=forces,
    )
    return path


def write_rmd17_splits(
    folder: Path, *, train: Sequence[int], test: Sequence[int]
) -> None:
    """Write the two files of the first split of the authors."""
    folder.mkdir()
    for name, indices in (("train", train), ("test", test)):
        text = "".join(f"{index}\n" for index in indices)
        (folder / f"index_{name}_01.csv").write_text(text)


def write_md22(
    path: Path,
    *,
    n: int,
    numbers: Sequence[int] = METHANE,
    units: tuple[str, str] = ("kcal/mol", "Ang"),
) -> Path:
    """Write an archive of MD22: frames vary fastest, one array is pickled."""
    positions, _, forces = geometries(numbers, n)
    np.savez_compressed(
        path,
        type="d",
        name=path.stem,
        theory="PBE+MBD, 500K",
        e_unit=units[0],
        r_unit=units[1],
        z=np.array(numbers),
        R=np.asfortranarray(positions),
        E=-np.arange(n, dtype=np.float64)[:, None],
        F=np.asfortranarray(forces),
        perms=np.array([{"a": 1}], dtype=object),
        F_min=forces.min(),
    )
    return path


# -- QM9 -----------------------------------------------------------------------------

METHANE_XYZ = """5
gdb {index}\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\
\t35.3641\t0.044749\t-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 1.9761204*^-3\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""
"""The first molecule as published, one number with an exponent as others have it."""

_CSV_HEADER = (
    "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,"
    "u0_atom,u298_atom,h298_atom,g298_atom"
)

_METHANE_CSV = (
    "gdb_{index},157.7118,157.70997,157.70699,0.0,13.21,-0.3877,0.1171,0.5048,35.3641,"
    "0.044749,-40.47893,-40.476062,-40.475117,-40.498597,6.469,"
    "-395.999594594,-398.643290011,-401.014646522,-372.471772148"
)

_METHANE_MOL = """gdb_{index}
  -OEChem-03231823243D

  5  4  0     0  0  0  0  0  0999 V2000
   -0.0127    1.0858    0.0080 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.0022   -0.0060    0.0020 H   0  0  0  0  0  0  0  0  0  0  0  0
    1.0117    1.4638    0.0003 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5408    1.4475   -0.8766 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5238    1.4379    0.9064 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
  1  5  1  0  0  0  0
M  END
$$$$
"""

_UNCHARACTERIZED = """



List of molecules among the 133885 GDB9 molecules for which the Corina generated ...
different SMILES and InChI strings when parsed through the program Openbabel.

==========================================================================
#   Index     GDB17 SMILES   SMILES for B3LYP XYZ    SMILES for Corina   D_IJ
==========================================================================
{rows}==========================================================================
"""


def write_qm9_xyz(folder: Path, indices: Sequence[int]) -> Path:
    """Write text files; each holds methane under another number."""
    for index in indices:
        path = folder / f"dsgdb9nsd_{index:06d}.xyz"
        path.write_text(METHANE_XYZ.format(index=index))
    return folder


def write_qm9_sdf(folder: Path, indices: Sequence[int]) -> Path:
    """Write the SDF and its CSV; each record is methane under another number."""
    records = "".join(_METHANE_MOL.format(index=index) for index in indices)
    rows = [_METHANE_CSV.format(index=index) for index in indices]
    (folder / "gdb9.sdf").write_text(records)
    (folder / "gdb9.sdf.csv").write_text("\n".join([_CSV_HEADER, *rows]) + "\n")
    return folder


def write_uncharacterized(folder: Path, indices: Sequence[int]) -> None:
    """Write the list of molecules to drop, with its prose."""
    rows = "".join(
        f"{index:8d}   NC(=N)C#N    NC(=N)C#N    [NH]C(=[NH2])C#N    6.036217\n"
        for index in indices
    )
    (folder / "uncharacterized.txt").write_text(_UNCHARACTERIZED.format(rows=rows))
