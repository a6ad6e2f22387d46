"""What torch-sim and its users expect of a model; slow, as torch-sim is to import."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys

import numpy as np
import pytest
import torch
import torch_sim
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import voigt_6_to_full_3x3_stress
from torch_sim.models.interface import validate_model_outputs

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator import torch_sim as adapter
from jmp_calc.calculator.torch_sim import JMPTorchSimModel
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from toys.models import published_model, smooth_model

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
# positions and energies go from one to the other as they are
SAME = {"rtol": 0, "atol": 1e-10}


def crystals() -> list[Atoms]:
    """Skewed cells of several sizes; rows and columns of a cell differ."""
    found = [bulk("Si"), bulk("Cu", cubic=True), bulk("Si", cubic=True)]
    strain = np.array([[1.02, 0.03, 0.0], [0.0, 0.98, 0.01], [0.02, 0.0, 1.01]])
    for seed, atoms in enumerate(found):
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.08, seed=seed)
        atoms.positions += 5.0  # outside of the cell
    return found


def molecules() -> list[Atoms]:
    found = [molecule("H2O"), molecule("C2H6"), molecule("CH3OH")]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


def state_of(frames: list[Atoms], dtype: torch.dtype = torch.float64):
    return torch_sim.io.atoms_to_state(frames, CPU, dtype)


@pytest.mark.parametrize(
    ("make", "head"), [(smooth_model, "crystals"), (published_model, "oc20")]
)
def test_torch_sims_own_check_passes(make, head):
    # its crystals are silicon and iron, which jmp-nano does not know
    validate_model_outputs(JMPTorchSimModel(make(), head=head), CPU, torch.float64)


@pytest.mark.parametrize("frames", [crystals(), molecules()], ids=["cells", "free"])
def test_a_batch_has_the_values_of_the_calculator(frames):
    model = JMPTorchSimModel("jmp-nano", dtype="float64")
    calculator = JMPCalculator("jmp-nano", dtype="float64")
    results = torch_sim.static(frames, model)
    for atoms, found in zip(frames, results, strict=True):
        direct = atoms.copy()
        direct.calc = calculator
        energy = float(found["potential_energy"])
        assert energy == pytest.approx(direct.get_potential_energy(), rel=0, abs=1e-9)
        np.testing.assert_allclose(found["forces"], direct.get_forces(), **SAME)
        if atoms.pbc.all():
            stress = voigt_6_to_full_3x3_stress(direct.get_stress())
            np.testing.assert_allclose(found["stress"][0], stress, **SAME)
        else:
            assert torch.isnan(found["stress"]).all()


def test_all_systems_are_one_forward_pass_and_each_as_if_alone(monkeypatch):
    model = JMPTorchSimModel(smooth_model(), dtype="float64")
    passes = []
    forward = model.network.forward

    def counted(graph, *args, **kwargs):
        passes.append(graph.n_systems)
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(model.network, "forward", counted)
    together = model(state_of(crystals()))
    assert passes == [3]
    alone = [model(state_of([atoms])) for atoms in crystals()]
    for name, values in together.items():
        np.testing.assert_allclose(values, torch.cat([x[name] for x in alone]), **SAME)


def test_the_stress_is_the_derivative_of_the_energy_and_tension_is_positive():
    model = JMPTorchSimModel("jmp-nano", dtype="float64")
    atoms, step = crystals()[2], 1e-4

    def energy(strain: np.ndarray) -> float:
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return float(model(state_of([moved]))["energy"][0])

    numeric = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2
        strain[j, i] += step / 2
        change = energy(strain) - energy(-strain)
        numeric[i, j] = change / (2 * step * atoms.get_volume())
    found = model(state_of([atoms]))["stress"][0]
    np.testing.assert_allclose(found, numeric, rtol=0, atol=2e-6)

    pressed, pulled = bulk("Cu", a=3.4), bulk("Cu", a=3.9)
    stress = model(state_of([pressed, pulled]))["stress"]
    assert (torch.einsum("sii->s", stress) > 0).tolist() == [False, True]


def test_cells_are_relaxed_to_where_ase_takes_them():
    model = JMPTorchSimModel("jmp-nano", dtype="float64")
    frames = [bulk("Cu", a=3.5), bulk("Cu", a=3.75)]
    relaxed = torch_sim.optimize(
        frames,
        model,
        optimizer=torch_sim.frechet_cell_fire,
        convergence_fn=torch_sim.generate_force_convergence_fn(0.002),
        max_steps=200,
    )
    calculator = JMPCalculator("jmp-nano", dtype="float64")
    for atoms in relaxed.to_atoms():
        atoms.calc = calculator
        # the forces on a cell are volume times stress
        assert abs(atoms.get_stress()).max() * atoms.get_volume() < 0.002


def test_constant_energy_is_constant():
    model = JMPTorchSimModel("jmp-nano", dtype="float64", compute_stress=False)
    settings = {"integrator": torch_sim.nve, "timestep": 0.00025, "temperature": 300}

    def totals(state) -> torch.Tensor:
        kinetic = torch_sim.calc_kinetic_energy(
            masses=state.masses, momenta=state.momenta, system_idx=state.system_idx
        )
        assert (kinetic > 0.01).all()
        return state.energy + kinetic

    frames = [molecule("H2O"), molecule("CH3OH")]
    state = torch_sim.integrate(frames, model, n_steps=1, seed=1, **settings)
    before, energy = totals(state), state.energy
    state = torch_sim.integrate(state, model, n_steps=40, **settings)
    assert abs(state.energy - energy).max() > 0.02
    assert (abs(totals(state) - before) < 0.002).all()


def test_heads_are_decided_once_also_when_systems_come_and_go(monkeypatch):
    decided = []
    decide = adapter.decide

    def counted(model, atoms, **settings):
        decided.append(atoms.get_chemical_formula())
        return decide(model, atoms, **settings)

    monkeypatch.setattr(adapter, "decide", counted)
    model = JMPTorchSimModel(smooth_model())
    water, ethane, methanol = molecules()
    for _ in range(3):
        for atoms in (water, ethane, methanol):
            # with longer bonds this would soon be no molecule
            atoms.set_cell([0, 0, 0])
            atoms.positions *= 1.1
        model(state_of([water, ethane, methanol]))
    assert len(decided) == 3
    model(state_of([water, methanol, ethane]))
    assert decided[3:] == ["C2H6"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_precision_of_the_state_and_states_are_float64(dtype):
    model = JMPTorchSimModel(smooth_model())
    results = model(state_of(crystals(), dtype))
    assert {values.dtype for values in results.values()} == {dtype}
    assert not any(values.requires_grad for values in results.values())
    assert model.dtype == torch.float64
    assert torch_sim.initialize_state(crystals(), CPU, model.dtype).dtype == model.dtype


def test_forces_and_stress_are_left_out_on_request():
    model = JMPTorchSimModel(smooth_model(), compute_forces=False, compute_stress=False)
    assert set(model(state_of(crystals()))) == {"energy"}
    model.compute_stress = True
    assert set(model(state_of(crystals()))) == {"energy", "stress"}
    model.compute_forces = True
    assert set(model(state_of(crystals()))) == {"energy", "forces", "stress"}


def test_a_head_that_sees_no_periodicity_has_no_stress():
    boxed = molecule("CH3OH", vacuum=5.0, pbc=True)
    model = JMPTorchSimModel(published_model(), head="ani1x")
    assert torch.isnan(model(state_of([boxed]))["stress"]).all()


def test_tags_are_those_of_the_calculator(cu_slab_co):
    cu_slab_co.pbc = True
    model = JMPTorchSimModel(published_model(), head="oc20", dtype="float64")
    direct = JMPCalculator(published_model(), head="oc20", dtype="float64")
    forces = model(state_of([cu_slab_co]))["forces"]
    expected = direct.get_property("forces", cu_slab_co)
    np.testing.assert_allclose(forces, expected, **SAME)


def test_a_head_that_nobody_asked_for_is_told_once(caplog):
    model = JMPTorchSimModel(smooth_model())
    for _ in range(2):
        model(state_of(crystals()))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "head 'crystals' (crystals-DFT) chosen by default" in record.message


def test_a_dictionary_is_a_state_too():
    model, state = JMPTorchSimModel(smooth_model()), state_of(crystals())
    names = ("positions", "cell", "pbc", "atomic_numbers", "system_idx")
    plain = {name: getattr(state, name) for name in names}
    assert torch.equal(model(plain)["energy"], model(state)["energy"])


def test_copies_and_pickles_compute_the_same():
    model, state = JMPTorchSimModel(smooth_model()), state_of(crystals())
    energy = model(state)["energy"]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(state)["energy"], energy)


def test_it_works_in_inference_mode():
    with torch.inference_mode():
        model = JMPTorchSimModel(smooth_model())
        assert model(state_of(crystals()))["forces"].abs().max() > 0


def test_a_system_that_cannot_be_computed_is_named():
    with pytest.raises(UnsupportedSystemError, match="Fe") as caught:
        JMPTorchSimModel("jmp-nano")(state_of([bulk("Cu"), bulk("Fe")]))
    assert caught.value.__notes__ == ["this is system 1 of the state"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"forces": "both"}, "forces is 'both'"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"head": "nobody"}, "unknown head 'nobody'"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(ArgumentError, match=message):
        JMPTorchSimModel("jmp-nano", **settings)


def test_a_missing_torch_sim_is_told_with_what_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, adapter.__name__)
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jmp-calc\[interop\]'"):
        importlib.import_module(adapter.__name__)
