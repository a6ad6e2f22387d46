"""Minima of held-out molecules with jmp-nano and GFN2-xTB, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from beside_xtb_compare import (
    bond_length_errors,
    errors_of,
    share_within,
    superposed_rmsd,
)
from beside_xtb_molecules import (
    DISPLACEMENT_A,
    IMAGINARY_PER_CM,
    METHOD,
    MODEL,
    ORDER,
    RELAXATION,
    SEED,
    Both,
    Molecule,
    held_out_smiles,
    is_at_rest,
    minimum,
    minimum_of_xtb,
    molecule_at_start,
    relaxed_by_xtb,
)
from tqdm import tqdm

from jmp_calc.sim.bonds import bonds_of
from jmp_calc.sim.side_by_side import Relaxed, relax_each

Minimum = dict[str, Any]
"""``positions`` and ``frequencies_per_cm``."""
SMALL = (4, 12)
"""Atoms of the molecules whose frequencies are compared, from and to."""
PERTURBATION_A = 0.1
"""Normal displacement along x, y and z of what is relaxed back, angstrom."""
LIMIT_A = 0.05
"""Root mean square distance up to which a minimum is the same, angstrom."""
FAILED = "the model found no minimum"


def held_out(both: Both) -> tuple[list[tuple[Molecule, Minimum]], dict[str, str]]:
    """Return held-out molecules with their minima, and why some are left out."""
    found, left_out = [], {}
    for smiles in tqdm(held_out_smiles(), desc="minima, GFN2-xTB", disable=None):
        each = molecule_at_start(smiles)
        if not set(each.start.numbers.tolist()) <= both.elements:
            left_out[each.smiles] = "the head does not know all of its elements"
            continue
        theirs = minimum_of_xtb(each.start, both)
        if theirs is None:
            left_out[each.smiles] = "GFN2-xTB found no minimum"
            continue
        found.append((each, theirs))
    return found, left_out


def minima_of_model(
    chosen: Sequence[tuple[Molecule, Minimum]], both: Both
) -> list[Minimum | None]:
    """Return the minima of the model from the same starts."""
    bar = tqdm(chosen, desc="minima, the model", disable=None)
    return [minimum(each.start, both.model) for each, _ in bar]


def vibrations(
    chosen: Sequence[tuple[Molecule, Minimum]], ends: Sequence[Minimum | None]
) -> dict[str, Any]:
    """Return frequencies of both methods in their own minima."""
    rows: list[dict[str, Any]] = []
    whole: dict[str, list[float]] = {MODEL: [], METHOD: []}
    for _, both, row in _pairs(chosen, ends, rows):
        waves = {name: found["frequencies_per_cm"] for name, found in both.items()}
        errors = errors_of(waves[MODEL], waves[METHOD])
        row["frequencies_per_cm"] = waves
        row["mae_per_cm"], row["largest_error_per_cm"] = errors.values()
        for name, values in waves.items():
            whole[name] += values
    errors = errors_of(whole[MODEL], whole[METHOD])
    return {
        "rule": f"the first held-out of {SMALL[0]} to {SMALL[1]} atoms {ORDER}",
        "displacement_A": DISPLACEMENT_A,
        "imaginary_below_that_count_as_minimum_per_cm": IMAGINARY_PER_CM,
        **_counts(rows),
        "n_frequencies": len(whole[METHOD]),
        "mae_per_cm": errors["mae"],
        "largest_error_per_cm": errors["largest"],
        "molecules": rows,
    }


def geometries(
    chosen: Sequence[tuple[Molecule, Minimum]], ends: Sequence[Minimum | None]
) -> dict[str, Any]:
    """Return errors of bond lengths between the minima of both methods."""
    rows: list[dict[str, Any]] = []
    errors: list[float] = []
    for each, both, row in _pairs(chosen, ends, rows):
        places = {name: np.array(found["positions"]) for name, found in both.items()}
        pairs, _, _ = bonds_of(Atoms(each.start.numbers, places[METHOD]))
        found = bond_length_errors(pairs, places[MODEL], places[METHOD])
        errors += found.tolist()
        row["n_bonds"] = len(found)
        row["bond_length_mae_A"] = float(found.mean())
        row["bond_length_largest_error_A"] = float(found.max())
        row["rmsd_A"] = superposed_rmsd(places[MODEL], places[METHOD])
    return {
        "rule": f"those of the frequencies, then the next held-out {ORDER}",
        **_counts(rows),
        "n_bonds": len(errors),
        "bond_length_mae_A": float(np.mean(errors)),
        "bond_length_largest_error_A": float(np.max(errors)),
        "share_of_bonds_within_0.01_A": share_within(errors, 0.01),
        "molecules": rows,
    }


def _pairs(
    chosen: Sequence[tuple[Molecule, Minimum]],
    ends: Sequence[Minimum | None],
    rows: list[dict[str, Any]],
) -> Iterator[tuple[Molecule, dict[str, Minimum], dict[str, Any]]]:
    """Yield molecules with both minima, and a row of ``rows`` to fill for each.

    Those of which the model found none have a row that says so.
    """
    for (each, theirs), mine in zip(chosen, ends, strict=True):
        row: dict[str, Any] = {"smiles": each.smiles, "n_atoms": len(each.start)}
        rows.append(row)
        if mine is None:
            row["failed"] = FAILED
        else:
            yield each, {MODEL: mine, METHOD: theirs}, row


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    n_failed = sum("failed" in row for row in rows)
    return {"n_molecules": len(rows) - n_failed, "n_failed": n_failed}


def displaced(found: Sequence[tuple[Molecule, Minimum]], n: int) -> list[Atoms]:
    """Return displaced minima, of each molecule in turn until there are enough."""
    starts = []
    for number in range(n):
        each, theirs = found[number % len(found)]
        atoms = Atoms(each.start.numbers, np.array(theirs["positions"]))
        generator = np.random.default_rng((SEED, number))
        atoms.positions += generator.normal(scale=PERTURBATION_A, size=(len(atoms), 3))
        starts.append(atoms)
    return starts


def returns(
    found: Sequence[tuple[Molecule, Minimum]], n: int, both: Both
) -> dict[str, Any]:
    """Return how far from the GFN2-xTB minimum relaxations of displaced ones end."""
    starts = displaced(found, n)
    ends = relaxed_by_model(starts, both)
    rows: list[dict[str, Any]] = []
    bar = tqdm(starts, desc="displaced, GFN2-xTB", disable=None)
    for number, (start, end) in enumerate(zip(bar, ends, strict=True)):
        each, theirs = found[number % len(found)]
        goal = np.array(theirs["positions"])
        by_xtb = relaxed_by_xtb(start, both)
        row: dict[str, Any] = {
            "smiles": each.smiles,
            "n_atoms": len(start),
            "n_turning_bonds": each.n_turning_bonds,
            "is_converged": is_at_rest(end),
            "start_rmsd_A": superposed_rmsd(start.positions, goal),
            "rmsd_A": None,
            "gfn2_xtb_rmsd_A": None,
        }
        if isinstance(end, Relaxed):
            row["rmsd_A"] = superposed_rmsd(end.atoms.positions, goal)
        if by_xtb is not None:
            row["gfn2_xtb_rmsd_A"] = superposed_rmsd(by_xtb, goal)
        rows.append(row)
    rigid = [row for row in rows if row["n_turning_bonds"] == 0]
    returning = [row for row in rows if share_within([row["gfn2_xtb_rmsd_A"]], LIMIT_A)]
    return {
        "displacement_A": PERTURBATION_A,
        "limit_A": LIMIT_A,
        "n_molecules": min(n, len(found)),
        "all": shares(rows),
        "without_turning_bonds": shares(rigid),
        "where_gfn2_xtb_returns": shares(returning),
        "starts": rows,
    }


def relaxed_by_model(starts: Sequence[Atoms], both: Both) -> list[Any]:
    """Return how relaxations of the model end, all side by side."""
    names = [str(number) for number in range(len(starts))]
    with tqdm(total=len(starts), desc="displaced, the model", disable=None) as bar:
        return relax_each(
            starts,
            RELAXATION,
            both.model,
            names=names,
            progress=lambda done, _: bar.update(done - bar.n),
        )


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the shares of relaxations that end where they should."""
    return {
        "n_starts": len(rows),
        "share_within": share_within([row["rmsd_A"] for row in rows], LIMIT_A),
        "gfn2_xtb_share_within": share_within(
            [row["gfn2_xtb_rmsd_A"] for row in rows], LIMIT_A
        ),
    }
