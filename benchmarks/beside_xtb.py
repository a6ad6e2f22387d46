"""How near is jmp-nano to GFN2-xTB itself, where users would notice?

    python benchmarks/beside_xtb.py [--cache runs/beside_xtb] [--plot PICTURE]

GFN2-xTB is the calculator that labels the set of the head ``xtb`` (tblite). Asked are

- the torsion of butane, all else relaxed: both curves, barriers;
- two waters pulled apart in the geometry of their GFN2-xTB dimer: interaction energy;
- harmonic frequencies of small molecules, each relaxed with its own method;
- bond lengths in the minima that both methods find from the same conformer;
- whether relaxations of displaced molecules return to the GFN2-xTB minimum. Some cross
  into another one with any method, so GFN2-xTB relaxes the same starts for comparison.

Molecules of the last three were not trained on: ``held_out`` of the result says which
these are. With heads of other sets the numbers compare two levels of theory. What
GFN2-xTB gave is kept in ``--cache`` and not computed again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from beside_xtb_compare import (
    STATIONS,
    errors_of,
    lowest_point,
    torsion_barriers,
)
from beside_xtb_minima import (
    LIMIT_A,
    SMALL,
    geometries,
    held_out,
    minima_of_model,
    returns,
    vibrations,
)
from beside_xtb_molecules import (
    HELD_OUT,
    METHOD,
    MODEL,
    N_CONFORMERS,
    RELAXATION,
    SEED,
    START_SPREAD_A,
    Both,
    Kept,
    molecule_at_start,
    needed_minimum_of_xtb,
    was_trained_on,
)
from provenance import write_result
from tqdm import tqdm

from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.evaluation import evaluate_in_chunks
from jmp_calc.sim.scan.calculation import run_scan
from jmp_calc.sim.scan.settings import ScanSettings
from jmp_train.data.recipes.xtb import XTB

TORSION = ScanSettings(
    atoms="0,1,2,3", start=0.0, stop=180.0, points=13, relax=True, fmax_eV_per_A=0.005
)
OXYGEN_A = np.linspace(2.4, 6.0, 37)
"""Distances of the oxygen atoms of two waters, angstrom."""


def butane(both: Both) -> dict[str, Any]:
    """Return the torsion about the middle bond, all else relaxed at each angle."""
    start = needed_minimum_of_xtb(molecule_at_start("CCCC").start, both)

    def progress() -> tqdm:
        return tqdm(total=TORSION.points, desc="butane", unit="angle", disable=None)

    def energies(calculator: Any) -> list[float]:
        with tempfile.TemporaryDirectory() as folder, progress() as bar:
            result = run_scan(
                start,
                TORSION,
                calculator=calculator,
                out=folder,
                progress=lambda done, _: bar.update(done - bar.n),
            )
        if not result.is_converged:
            raise RuntimeError(f"the torsion of butane failed: {result.reason}")
        return (1e3 * (result.energies_eV - result.energies_eV[-1])).tolist()

    curves = both.of(f"torsion {TORSION}", start, energies)
    angles = TORSION.values(0.0)
    barriers = {n: torsion_barriers(angles, np.array(y)) for n, y in curves.items()}
    # at the last point, anti, both are zero by definition
    errors = errors_of(curves[MODEL][:-1], curves[METHOD][:-1])
    return {
        "was_trained_on": was_trained_on("CCCC", both.head),
        "dihedral_deg": angles.tolist(),
        "energy_above_anti_meV": curves,
        "mae_meV": errors["mae"],
        "largest_error_meV": errors["largest"],
        **{
            station: {name: found[station] for name, found in barriers.items()}
            for station in STATIONS
        },
    }


def two_waters() -> Atoms:
    """Return two waters with a hydrogen bond, roughly; oxygens are atoms 0 and 3."""
    donor, acceptor = molecule("H2O"), molecule("H2O")
    for water in (donor, acceptor):
        water.positions -= water.positions[0]
    # a hydrogen of the one points at the oxygen of the other, whose own point away
    donor.rotate(donor.positions[1], (1, 0, 0))
    acceptor.rotate(acceptor.positions[1:].mean(axis=0), (0.5, 0, 0.8))
    acceptor.positions[:, 0] += 2.9
    return donor + acceptor


def waters(both: Both) -> dict[str, Any]:
    """Return the interaction energy of two waters over their O-O distance."""
    dimer = needed_minimum_of_xtb(two_waters(), both)
    axis = dimer.positions[3] - dimer.positions[0]
    present = float(np.linalg.norm(axis))
    frames = [dimer[:3], dimer[3:]]
    for distance in OXYGEN_A:
        frame = dimer.copy()
        frame.positions[3:] += axis * (distance / present - 1)
        frames.append(frame)

    def energies(calculator: Any) -> list[float]:
        found = evaluate_in_chunks(calculator, frames, ("energy",))
        first, second, *pairs = [1e3 * float(each["energy"]) for each in found]
        return [pair - first - second for pair in pairs]

    curves = both.of(f"waters {OXYGEN_A.tolist()}", dimer, energies)
    errors = errors_of(curves[MODEL], curves[METHOD])
    lowest = {n: lowest_point(OXYGEN_A, np.array(y)) for n, y in curves.items()}
    return {
        "was_trained_on": was_trained_on("O", both.head),
        "geometry": "both molecules as in the dimer that GFN2-xTB relaxed",
        "oxygen_distance_of_relaxed_dimer_A": present,
        "oxygen_distance_A": OXYGEN_A.tolist(),
        "interaction_energy_meV": curves,
        "mae_meV": errors["mae"],
        "largest_error_meV": errors["largest"],
        "minimum_at_A": {name: place for name, (place, _) in lowest.items()},
        "depth_meV": {name: -height for name, (_, height) in lowest.items()},
    }


def minima(both: Both, options: argparse.Namespace) -> dict[str, Any]:
    """Return frequencies, geometries and returns of held-out molecules."""
    found, left_out = held_out(both)
    is_small = [SMALL[0] <= len(each.start) <= SMALL[1] for each, _ in found]
    small = [each for each, yes in zip(found, is_small, strict=True) if yes]
    small = small[: options.vibrations]
    others = [each for each in found if not any(each is one for one in small)]
    chosen = [*small, *others][: max(options.geometries, len(small))]
    ends = minima_of_model(chosen, both)
    return {
        "held_out": {
            "rule": HELD_OUT,
            "n_molecules": len(found),
            "left_out": left_out,
            "n_conformers": N_CONFORMERS,
            "start_spread_A": START_SPREAD_A,
            "seed": SEED,
        },
        "vibrations": vibrations(small, ends[: len(small)]),
        "geometries": geometries(chosen, ends),
        "returns": returns(found, options.starts, both),
    }


def report(values: dict[str, Any]) -> None:
    """Print what a reader looks for first."""
    curves, dimer = values["butane"], values["water_dimer"]
    print(f"torsion of butane: MAE {curves['mae_meV']:.1f} meV")
    for station in STATIONS:
        print(f"  {station}: {both_numbers(curves[station])}")
    print(f"two waters: MAE {dimer['mae_meV']:.1f} meV")
    for name in ("minimum_at_A", "depth_meV"):
        print(f"  {name}: {both_numbers(dimer[name])}")
    waves, lengths, back = (
        values[name] for name in ("vibrations", "geometries", "returns")
    )
    print(
        f"{waves['n_frequencies']} frequencies of {waves['n_molecules']} molecules: "
        f"MAE {waves['mae_per_cm']:.1f} 1/cm\n"
        f"{lengths['n_bonds']} bonds of {lengths['n_molecules']} molecules: MAE "
        f"{lengths['bond_length_mae_A']:.4f} Å, largest error "
        f"{lengths['bond_length_largest_error_A']:.4f} Å"
    )
    for name in ("all", "without_turning_bonds", "where_gfn2_xtb_returns"):
        print(f"back within {LIMIT_A} Å, {name}: {back[name]}")


def both_numbers(values: dict[str, float]) -> str:
    """Return the numbers of both methods as text."""
    return f"{values[MODEL]:.3g} (GFN2-xTB {values[METHOD]:.3g})"


def plot(values: dict[str, Any], path: Path) -> None:
    """Draw the torsion, the two waters, and both methods' frequencies."""
    figure = new_figure(9.6, 3.3)
    torsion, dimer, parity = figure.subplots(1, 3)
    labels = {METHOD: "GFN2-xTB", MODEL: f"jmp-nano, {values['head']}"}
    butane, waters = values["butane"], values["water_dimer"]
    for place, (name, label) in enumerate(labels.items()):
        style = {"c": color(place), "ls": "-" if place == 0 else "--", "label": label}
        energy = butane["energy_above_anti_meV"][name]
        torsion.plot(butane["dihedral_deg"], energy, marker="o", ms=3, **style)
        energy = waters["interaction_energy_meV"][name]
        dimer.plot(waters["oxygen_distance_A"], energy, **style)
    torsion.set_xticks(range(0, 181, 30))
    torsion.set_xlabel("C-C-C-C of butane (degrees)")
    torsion.set_ylabel("energy above anti (meV)")
    dimer.axhline(0, c=GRAY, lw=0.8)
    deepest = max(waters["depth_meV"].values())
    # the wall would hide the well
    dimer.set_ylim(-1.15 * deepest, 0.6 * deepest)
    dimer.set_xlabel("O-O of two waters (Å)")
    dimer.set_ylabel("interaction energy (meV)")
    found = values["vibrations"]
    waves = [row for row in found["molecules"] if "failed" not in row]
    theirs, mine = (
        [wave for row in waves for wave in row["frequencies_per_cm"][name]]
        for name in (METHOD, MODEL)
    )
    ends = [min(0, *mine), 1.05 * max(*theirs, *mine)]
    parity.plot(ends, ends, c=GRAY, lw=0.8, label="equal")
    label = (
        f"{found['n_molecules']} molecules, MAE {found['mae_per_cm']:.0f} cm$^{{-1}}$"
    )
    parity.plot(theirs, mine, "o", ms=3, mew=0, c=color(1), alpha=0.7, label=label)
    parity.set_xlabel("frequency, GFN2-xTB (cm$^{-1}$)")
    parity.set_ylabel("frequency, jmp-nano (cm$^{-1}$)")
    parity.set_aspect("equal")
    for axes in (torsion, dimer, parity):
        tidy(axes)
        legend_above(axes, columns=1)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="jmp-nano", help="Name or weights file.")
    parser.add_argument("--head", default="xtb")
    parser.add_argument("--vibrations", type=int, default=10, help="Molecules.")
    parser.add_argument("--geometries", type=int, default=30, help="Molecules.")
    parser.add_argument("--starts", type=int, default=100, help="Displaced molecules.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="Folder for what GFN2-xTB gave.")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    both = Both(options.model, options.head, Kept(folder=options.cache))
    facts = both.model.describe(two_waters())
    values: dict[str, Any] = {
        "head": options.head,
        "level_of_theory": facts["level_of_theory"],
        "weights_sha256": facts["weights_sha256"],
        "dtype": both.model.parameters["dtype"],
        "reference": XTB.level_of_theory,
        "fmax_eV_per_A": RELAXATION.fmax_eV_per_A,
        "butane": butane(both),
        "water_dimer": waters(both),
        **minima(both, options),
    }
    report(values)
    if options.plot:
        plot(values, options.plot)
    write_result("beside_xtb", values, options.out)


if __name__ == "__main__":
    main()
