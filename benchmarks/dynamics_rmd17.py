"""Does dynamics on jmp-nano keep molecules together that it was not trained on?

    python benchmarks/dynamics_rmd17.py RMD17 [--molecules ethanol:50 aspirin:10]

RMD17 is a folder with the files of the first split of the authors of the set
(rmd17_ethanol_test_01.npz). Each run (Langevin, 0.5 fs, float32) starts from a frame of
the set, relaxed, and lasts as many picoseconds as are behind the colon. Told are the
longest stretch of a bond, the mean temperature in units of its standard error, the
drift of the conserved energy, and h(r) beside the 1000 test frames, which come from
dynamics at 500 K with PBE. Runs are kept in ``--runs`` and go on where they were.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.optimize import BFGS
from provenance import write_result
from tqdm import tqdm

from jmp_calc import JMPCalculator
from jmp_calc.sim.analysis.analyze import run_analysis
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.dynamics.md import MDResult, run_md
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings, WatchSettings
from jmp_calc.sim.trajectories.frames import FrameFile

EQUILIBRATION = 0.1
"""Part of a run that its averages leave out."""


def relaxed(frame: Atoms) -> Atoms:
    """Return the nearest minimum of a frame, with its calculator (float32)."""
    atoms = Atoms(frame.numbers, frame.positions)
    atoms.calc = JMPCalculator("jmp-nano", head="qm7x", dtype="float64")
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=500)
    atoms.calc = JMPCalculator("jmp-nano", head="qm7x")
    return atoms


def run(start: Atoms, settings: MDSettings, out: Path, stem: str) -> MDResult:
    """Run until a bond breaks or the end, or go on with what is there."""
    with tqdm(total=settings.n_steps, desc=stem, unit="step", disable=None) as bar:
        return run_md(
            start,
            settings,
            record=RecordSettings(trajectory_stride=20),
            watch=WatchSettings(max_bond_stretch=1.5),
            out=out,
            stem=stem,
            resume=(out / f"{stem}-checkpoint.npz").exists(),
            progress=lambda now: bar.update(now.step - bar.n),
        )


def distances(
    result: MDResult, reference: Path, settings: MDSettings
) -> dict[str, Any]:
    """Return what h(r) says beside the frames of the set."""
    analysis = run_analysis(
        [result.files.trajectory],
        AnalysisSettings(
            only=("structure",),
            reference=reference,
            equilibration_ps=EQUILIBRATION * settings.duration_ps,
        ),
        out=result.files.trajectory.parent,
        names=[result.files.trajectory.stem],
        picture_format="png",
        overwrite=True,
    )
    (section,) = (s for s in analysis.trajectories[0].sections if s.key == "distances")
    return {fact.name: fact.value for fact in section.facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="RMD17")
    parser.add_argument("--molecules", nargs="+", default=["ethanol:50", "aspirin:10"])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[300, 500])
    parser.add_argument("--runs", type=Path, default=Path("runs/dynamics_rmd17"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values: dict[str, Any] = {}
    for word in options.molecules:
        molecule, _, picoseconds = word.partition(":")
        reference = options.folder / f"rmd17_{molecule}_test_01.npz"
        start = relaxed(next(iter(FrameFile(path=reference)))[1])
        for temperature in options.temperatures:
            settings = MDSettings(
                temperature_K=temperature,
                timestep_fs=0.5,
                time_ps=float(picoseconds or 10),
            )
            stem = f"{molecule}-{temperature:g}K"
            result = run(start, settings, options.runs, stem)
            error = result.mean_temperature_error_K
            values[stem] = {
                "status": result.status,
                "reason": result.reason,
                "picoseconds": result.n_steps * settings.timestep_fs / 1000,
                "largest_bond_stretch": result.largest_bond_stretch,
                "mean_temperature_K": result.mean_temperature_K,
                "standard_error_K": error,
                "deviation_in_standard_errors": None
                if error is None
                else (result.mean_temperature_K - temperature) / error,
                "drift_meV_per_atom_per_ps": result.energy_drift_meV_per_atom_per_ps,
                **distances(result, reference, settings),
            }
            print(stem, values[stem], flush=True)
    write_result("dynamics_rmd17", values, options.out)


if __name__ == "__main__":
    main()
