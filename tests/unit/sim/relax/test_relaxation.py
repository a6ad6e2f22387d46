"""Relaxations side by side: the same as alone, batched, each on its own fate."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
)
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS, FIRE, LBFGS

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import OneByOne
from jmp_calc.sim.relax.relaxation import run_relax
from jmp_calc.sim.relax.settings import RelaxSettings

ASE_OPTIMIZERS = {"lbfgs": LBFGS, "bfgs": BFGS, "fire": FIRE}

# both sides do the same arithmetic; EMT's sums depend on the order of its neighbours
SAME_EV = 1e-9


class CountingEMT:
    """EMT that computes lists and remembers each call and geometry."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.geometries: list[bytes] = []
        self._inner = OneByOne(EMT())

    def evaluate(self, list_of_atoms, properties: Sequence[str] = ("energy", "forces")):
        self.sizes.append(len(list_of_atoms))
        self.geometries += [
            a.positions.tobytes() + a.cell.array.tobytes() for a in list_of_atoms
        ]
        return self._inner.evaluate(list_of_atoms, properties)


def rattled(symbol: str, seed: int, size: float = 0.08) -> Atoms:
    atoms = bulk(symbol, cubic=True)
    atoms.rattle(size, seed=seed)
    return atoms


@pytest.fixture
def metals() -> dict[str, Atoms]:
    names = ["Cu", "Al", "Ag", "Au", "Ni"]
    return {name: rattled(name, seed) for seed, name in enumerate(names)}


def relax(systems, out, calculator=None, *, progress=None, **settings):
    return run_relax(
        systems,
        RelaxSettings(**settings),
        calculator=calculator or EMT(),
        out=out,
        progress=progress,
    )


def test_all_structures_are_computed_in_one_call_a_round_and_no_geometry_twice(
    metals, tmp_path
):
    calculator = CountingEMT()
    result = relax(metals, tmp_path, calculator)
    longest = max(outcome.n_steps for outcome in result.outcomes)
    assert len(calculator.sizes) == result.n_rounds == longest + 1
    assert sum(calculator.sizes) == sum(o.n_steps + 1 for o in result.outcomes)
    assert len(set(calculator.geometries)) == len(calculator.geometries)
    # those that are done drop out
    assert calculator.sizes == sorted(calculator.sizes, reverse=True)
    assert calculator.sizes[0] == 5


@pytest.mark.parametrize("optimizer", ASE_OPTIMIZERS)
@pytest.mark.parametrize("move", ["positions", "both"])
def test_each_structure_goes_the_way_that_ase_goes_with_it_alone(
    optimizer, move, metals, tmp_path
):
    systems = {name: metals[name] for name in ("Cu", "Al")}
    result = relax(systems, tmp_path, optimizer=optimizer, move=move, steps=10)
    for outcome in result.outcomes:
        atoms = metals[outcome.name].copy()
        atoms.calc = EMT()
        movable = FrechetCellFilter(atoms) if move == "both" else atoms
        energies, volumes = [], []
        alone = ASE_OPTIMIZERS[optimizer](movable, logfile=None)
        alone.attach(lambda a=atoms, e=energies: e.append(a.get_potential_energy()))
        alone.attach(lambda a=atoms, v=volumes: v.append(a.get_volume()))
        alone.run(fmax=0, steps=outcome.n_steps)
        ours = [step.energy_eV for step in outcome.steps]
        assert ours == pytest.approx(energies, abs=SAME_EV)
        assert outcome.atoms.positions == pytest.approx(atoms.positions, abs=1e-8)
        if move == "both":
            ours = [step.volume_A3 for step in outcome.steps]
            assert ours == pytest.approx(volumes, abs=1e-8)


def test_few_at_a_time_gives_the_same_as_all_at_once(metals, tmp_path):
    calculator = CountingEMT()
    few = relax(metals, tmp_path / "few", calculator, together=2)
    many = relax(metals, tmp_path / "many")
    assert max(calculator.sizes) == 2
    # the place of one that is done is filled at once
    assert calculator.sizes == sorted(calculator.sizes, reverse=True)
    for a, b in zip(few.outcomes, many.outcomes, strict=True):
        assert a.name == b.name
        assert a.n_steps == b.n_steps
        assert a.energy_change == pytest.approx(b.energy_change, abs=SAME_EV)


def test_a_relaxed_structure_is_computed_once(tmp_path):
    calculator = CountingEMT()
    result = relax({"cu": bulk("Cu")}, tmp_path, calculator)
    assert calculator.sizes == [1]
    assert result.outcomes[0].status == "converged"
    assert result.outcomes[0].n_steps == 0


def test_steps_are_a_limit_and_the_last_one_is_looked_at(tmp_path):
    calculator = CountingEMT()
    needed = relax({"cu": rattled("Cu", 0)}, tmp_path / "a").outcomes[0].n_steps
    enough = relax({"cu": rattled("Cu", 0)}, tmp_path / "b", calculator, steps=needed)
    assert enough.outcomes[0].status == "converged"
    assert len(calculator.sizes) == needed + 1
    short = relax({"cu": rattled("Cu", 0)}, tmp_path / "c", steps=needed - 1)
    outcome = short.outcomes[0]
    assert outcome.status == "not converged"
    assert outcome.reason == f"{needed - 1} steps were not enough"
    assert outcome.steps[-1].max_force_eV_per_A > 0.01


def test_the_input_is_not_changed(metals, tmp_path):
    before = {name: atoms.copy() for name, atoms in metals.items()}
    relax(metals, tmp_path, move="both", steps=3)
    for name, atoms in metals.items():
        assert atoms == before[name]
        assert atoms.calc is None


def test_fixed_atoms_stay_and_their_forces_do_not_count(tmp_path):
    slab = fcc111("Cu", (1, 1, 4), vacuum=6)
    slab.positions[-1, 2] += 0.3
    slab.set_constraint(FixAtoms([0, 1]))
    outcome = relax({"slab": slab}, tmp_path).outcomes[0]
    assert outcome.status == "converged"
    assert np.array_equal(outcome.atoms.positions[:2], slab.positions[:2])
    assert outcome.atoms.constraints[0].get_indices().tolist() == [0, 1]
    held = outcome.atoms.get_forces(apply_constraint=False)[:2]
    assert np.abs(held).max() > 0.01


CONSTRAINTS = {
    "line": FixedLine([1, 2], (1, 0, 0)),
    "plane": FixedPlane([1, 2], (0, 1, 0)),
    "components": FixCartesian([0, 3], (True, False, True)),
    "bond": FixBondLength(0, 1),
    "centre": FixCom(),
}


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_every_constraint_is_held_as_by_ase_and_kept_in_the_steps(kind, tmp_path):
    start = rattled("Cu", 0)
    start.set_constraint(CONSTRAINTS[kind])
    outcome = relax({"cu": start}, tmp_path).outcomes[0]
    assert outcome.status == "converged"
    alone = start.copy()
    alone.calc = EMT()
    LBFGS(alone, logfile=None).run(fmax=0.01)
    assert outcome.atoms.positions == pytest.approx(alone.positions, abs=1e-7)
    (kept,) = read(outcome.files.trajectory).constraints
    assert kept.todict() == start.constraints[0].todict()


@pytest.mark.parametrize(
    ("optimizer", "length"),
    [
        ("fire", np.linalg.norm),
        ("bfgs", lambda moves: np.linalg.norm(moves, axis=1).max()),
        ("lbfgs", lambda moves: np.linalg.norm(moves, axis=1).max()),
    ],
)
def test_no_step_is_longer_than_allowed(optimizer, length, tmp_path):
    start = rattled("Cu", 0, size=0.3)
    settings = {"optimizer": optimizer, "max_step_A": 0.05, "steps": 10}
    outcome = relax({"cu": start}, tmp_path, **settings).outcomes[0]
    frames = [frame.positions for frame in read(outcome.files.trajectory, ":")]
    moves = [length(move) for move in np.diff(frames, axis=0)]
    # the first steps would be longer
    assert max(moves) == pytest.approx(0.05)


class TwoModels(CountingEMT):
    """Tells a spread that grows with the calls, as a committee may."""

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        found = super().evaluate(list_of_atoms, properties)
        for atoms, results in zip(list_of_atoms, found, strict=True):
            spread = np.zeros((len(atoms), 3))
            spread[1, :2] = 0.3 * len(self.sizes), 0.4 * len(self.sizes)
            results |= {"energy_std": 0.1 * len(self.sizes), "forces_std": spread}
        return found


@pytest.mark.parametrize("format", ["traj", "xyz"])
def test_the_spread_of_a_committee_is_in_every_file(format, tmp_path):
    settings = {"steps": 2, "trajectory_format": format}
    outcome = relax({"cu": rattled("Cu", 0)}, tmp_path, TwoModels(), **settings)
    files = outcome.outcomes[0].files
    with files.steps.open() as lines:
        steps = list(csv.DictReader(lines))
    with outcome.files.table.open() as lines:
        (row,) = csv.DictReader(lines)
    for number, step in zip((1, 2, 3, 3), [*steps, row], strict=True):
        assert float(step["energy_std_eV"]) == pytest.approx(0.1 * number)
        assert float(step["max_force_std_eV_per_A"]) == pytest.approx(0.5 * number)
    for path in (files.trajectory, files.final):
        frame = read(path)
        assert frame.info["jmp_energy_std"] == pytest.approx(0.3)
        if path.suffix == ".traj":
            # ASE's format has no place for columns of other names
            continue
        assert frame.arrays["jmp_forces_std"][1] == pytest.approx([0.9, 1.2, 0])


@pytest.mark.parametrize("format", ["traj", "xyz"])
def test_what_a_kill_leaves_is_readable(format, tmp_path):
    class Killed(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            if len(self.sizes) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().evaluate(list_of_atoms, properties)

    child = os.fork()
    if not child:
        try:
            systems = {"cu": rattled("Cu", 0), "al": bulk("Al")}
            relax(systems, tmp_path, Killed(), trajectory_format=format)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(read(tmp_path / f"cu-relax.{format}", ":")) == 4
    assert len((tmp_path / "cu-relax.csv").read_text().splitlines()) == 5
    assert read(tmp_path / "al-final.xyz").info["relax_status"] == "converged"
    assert "al,converged" in (tmp_path / "all-table.csv").read_text()


class Poisoned(CountingEMT):
    """Goes wrong for aluminium after some calls."""

    def __init__(self, what: str, after: int) -> None:
        super().__init__()
        self._what, self._after = what, after

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        found = super().evaluate(list_of_atoms, properties)
        for atoms, results in zip(list_of_atoms, found, strict=True):
            if len(self.sizes) > self._after and "Al" in atoms.symbols:
                if self._what == "raises":
                    raise UnsupportedSystemError("no edge is left")
                results[self._what] = results[self._what] * np.nan
        return found


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("forces", "after step 2: its forces came out not finite"),
        ("energy", "after step 2: its energy came out not finite"),
        ("raises", "after step 2: no edge is left"),
    ],
)
def test_a_structure_that_explodes_does_not_take_the_others_along(
    what, told, metals, tmp_path
):
    result = relax(metals, tmp_path, Poisoned(what, after=3))
    assert result.counts == {"converged": 4, "unstable": 1}
    bad = result.outcomes[1]
    assert bad.reason == told
    assert bad.n_steps == 2
    # the last good structure is kept
    kept = read(bad.files.final)
    assert np.isfinite(kept.get_forces()).all()
    assert kept.info["relax_status"] == "unstable"
    assert len(read(bad.files.trajectory, ":")) == 3
    alone = relax({"Cu": metals["Cu"]}, tmp_path / "alone").outcomes[0]
    assert result.outcomes[0].n_steps == alone.n_steps


def test_a_structure_that_cannot_be_computed_is_refused_and_the_others_go_on(tmp_path):
    systems = {"water": molecule("CH3Cl"), "cu": rattled("Cu", 0)}
    result = relax(systems, tmp_path)
    assert result.counts == {"refused": 1, "converged": 1}
    assert "No EMT-potential for Cl" in result.outcomes[0].reason
    assert not (tmp_path / "water-relax.csv").exists()
    table = (tmp_path / "all-table.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in table] == ["status", "refused", "converged"]


def test_if_none_can_be_computed_the_first_error_is_raised_and_nothing_written(
    tmp_path,
):
    out = tmp_path / "new"
    with pytest.raises(UnsupportedSystemError, match="No EMT-potential for Cl"):
        relax({"a": molecule("CH3Cl"), "b": molecule("CH3Cl")}, out)
    assert not out.exists()


@pytest.mark.parametrize("stress", [1.0, -1.0])
def test_a_cell_that_collapses_or_bursts_ends_alone(stress, tmp_path):
    class Torn(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            found = super().evaluate(list_of_atoms, properties)
            for results in found:
                results["stress"] = stress * np.array([1.0, 1, 1, 0, 0, 0])
            return found

    result = relax({"cu": bulk("Cu")}, tmp_path, Torn(), move="cell")
    assert result.outcomes[0].status == "unstable"
    assert "times that of the start, outside of 0.25 to 4" in result.outcomes[0].reason
    assert result.outcomes[0].n_steps < 30


def test_forces_too_large_for_a_step_end_it_alone(tmp_path):
    class Bursting(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            found = super().evaluate(list_of_atoms, properties)
            found[0]["forces"] = np.full((4, 3), 1e300)
            return found

    # their squares are infinite: the first step is none, the second no number
    with np.errstate(all="ignore"):
        result = relax({"cu": rattled("Cu", 0)}, tmp_path, Bursting())
    outcome = result.outcomes[0]
    assert outcome.status == "unstable"
    assert outcome.reason == "after step 1: the optimizer sent an atom to infinity"
    assert np.isfinite(read(outcome.files.final).positions).all()


def test_velocities_of_the_input_are_not_those_of_the_result(tmp_path):
    atoms = rattled("Cu", 0)
    atoms.set_velocities(np.ones((4, 3)))
    outcome = relax({"cu": atoms}, tmp_path, steps=1).outcomes[0]
    assert not read(outcome.files.final).has("momenta")
    assert not read(outcome.files.trajectory).has("momenta")


def test_energy_changes_are_told_in_total_and_by_atom(tmp_path):
    row = relax({"cu": rattled("Cu", 0)}, tmp_path).outcomes[0].row()
    change = row["final_energy_eV"] - row["initial_energy_eV"]
    assert row["energy_change_eV"] == pytest.approx(change)
    assert row["energy_change_meV_per_atom"] == pytest.approx(1000 * change / 4)


def test_a_head_that_changes_on_the_way_is_told(tmp_path):
    class TwoHeads(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            found = super().evaluate(list_of_atoms, properties)
            name = "ani1x" if len(self.sizes) < 3 else "transition1x"
            return [{**results, "head": name} for results in found]

    outcome = relax({"cu": rattled("Cu", 0)}, tmp_path, TwoHeads()).outcomes[0]
    assert outcome.status == "unstable"
    assert "changed from 'ani1x' to 'transition1x'" in outcome.reason
    assert outcome.head == "ani1x"


def test_what_was_done_is_kept_when_interrupted(metals, tmp_path):
    class Interrupted(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            if len(self.sizes) == 6:
                raise KeyboardInterrupt("SIGTERM")
            return super().evaluate(list_of_atoms, properties)

    result = relax(metals, tmp_path, Interrupted(), together=3, steps=3)
    assert result.interruption == "SIGTERM in round 7"
    statuses = [outcome.status for outcome in result.outcomes]
    assert statuses == ["not converged"] * 3 + ["interrupted"] * 2
    outcome = result.outcomes[4]
    assert outcome.n_steps == 1
    assert len(read(outcome.files.trajectory, ":")) == 2
    assert len(outcome.files.steps.read_text().splitlines()) == 3
    assert read(outcome.files.final).info["relax_status"] == "interrupted"
    assert len(read(tmp_path / "all-relaxed.xyz", ":")) == 5
    assert "status: interrupted" in (tmp_path / "all-summary.yml").read_text()


def test_those_that_had_no_turn_are_told(metals, tmp_path):
    class Interrupted(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            raise KeyboardInterrupt

    result = relax(metals, tmp_path, Interrupted())
    assert result.counts == {"not started": 5}
    assert result.interruption == "Ctrl-C in round 1"


def test_an_error_leaves_readable_files(metals, tmp_path):
    class Broken(CountingEMT):
        def evaluate(self, list_of_atoms, properties=("energy", "forces")):
            if len(self.sizes) == 3:
                raise RuntimeError("a bug")
            return super().evaluate(list_of_atoms, properties)

    with pytest.raises(RuntimeError, match="a bug") as told:
        relax(metals, tmp_path, Broken())
    assert told.value.__notes__ == [f"what was done until then is in {tmp_path}"]
    assert len(read(tmp_path / "Cu-relax.traj", ":")) == 3


@pytest.mark.parametrize("format", ["traj", "xyz", "none"])
def test_the_steps_read_back(format, tmp_path):
    start = rattled("Cu", 0)
    result = relax({"cu": start}, tmp_path, trajectory_format=format)
    outcome = result.outcomes[0]
    written = sorted(path.name for path in tmp_path.iterdir())
    names = ["all-summary.yml", "all-table.csv", "cu-final.xyz", "cu-relax.csv"]
    if format == "none":
        assert written == names
        return
    assert written == sorted([*names, f"cu-relax.{format}"])
    frames = read(outcome.files.trajectory, ":")
    assert len(frames) == outcome.n_steps + 1
    # extended XYZ keeps eight decimals
    assert frames[0].positions == pytest.approx(start.positions, abs=1e-8)
    for frame, step in zip(frames, outcome.steps, strict=True):
        assert frame.info["step"] == step.step
        assert frame.get_potential_energy() == pytest.approx(step.energy_eV)
        longest = np.linalg.norm(frame.get_forces(), axis=1).max()
        assert longest == pytest.approx(step.max_force_eV_per_A, abs=1e-7)


def test_an_existing_file_is_not_replaced_unasked(tmp_path):
    (tmp_path / "cu-final.xyz").write_text("precious")
    with pytest.raises(ArgumentError, match=r"cu-final\.xyz exists"):
        relax({"cu": bulk("Cu")}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cu-final.xyz"]


def test_progress_is_told_after_every_round(metals, tmp_path):
    states = []
    result = relax(metals, tmp_path, progress=states.append)
    assert [state.n_rounds for state in states] == list(range(1, result.n_rounds + 1))
    assert states[-1].n_done == 5
    assert states[-1].n_active == 0
    assert states[0].max_force_eV_per_A > 0.1


def test_nothing_to_relax_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="give at least one structure"):
        relax({}, tmp_path)
