"""Another program gets the right numbers, and its faults are told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from jmp_calc.errors import ArgumentError, DataError, UnsupportedSystemError
from jmp_calc.sim.serving import connection
from jmp_calc.sim.serving.serving import run_serve
from jmp_calc.sim.serving.settings import ServeSettings
from toys.broken import Changed
from toys.sockets import Asking, ask, ask_batch, send_structure


def crystal(seed: int = 0) -> Atoms:
    """Skewed, so that rows and columns of the cell differ."""
    atoms = bulk("Cu", cubic=True)
    strain = np.array([[1.03, 0.04, 0.0], [0.0, 0.98, 0.01], [0.02, 0.0, 1.0]])
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


def served(atoms, script, tmp_path, *, calculator=None, **settings):
    """Serve a script over TCP; return what it got and how it ended."""
    with Asking(script) as other:
        result = run_serve(
            atoms,
            ServeSettings(port=other.port, **settings),
            calculator=calculator or EMT(),
            out=tmp_path,
            stem="cu",
        )
    return other.result, result


def summary(tmp_path) -> dict:
    return yaml.safe_load((tmp_path / "cu-serve.yaml").read_text(encoding="utf-8"))


def test_a_crystal_gets_energy_forces_and_virial(tmp_path):
    frames = [crystal(seed) for seed in range(3)]
    found, result = served(crystal(9), ask(frames), tmp_path)
    assert (result.status, result.n_structures) == ("ended", 3)
    for frame, given in zip(frames, found, strict=True):
        frame.calc = EMT()
        # units are converted to atomic ones and back
        tight = {"rtol": 0, "atol": 1e-10}
        np.testing.assert_allclose(given["energy"], frame.get_potential_energy())
        np.testing.assert_allclose(given["forces"], frame.get_forces(), **tight)
        virial = -frame.get_volume() * frame.get_stress(voigt=False)
        np.testing.assert_allclose(given["virial"], virial, **tight)
    about = summary(tmp_path)
    assert about["status"] == "ended"
    assert about["results"] == {"n_structures": 3, "has_virial": True}


def test_the_virial_is_minus_the_derivative_of_the_energy_by_strain(tmp_path):
    step, frames = 1e-5, [crystal()]
    for i, j in np.ndindex(3, 3):
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            frame = crystal()
            frame.set_cell(frame.cell.array @ strain, scale_atoms=True)
            frames.append(frame)
    (first, *others), _ = served(crystal(), ask(frames), tmp_path)
    up, down = ([x["energy"] for x in others[k::2]] for k in (0, 1))
    numeric = -np.subtract(up, down).reshape(3, 3) / (2 * step)
    np.testing.assert_allclose(first["virial"], numeric, rtol=0, atol=1e-6)


def test_units_are_atomic_ones_on_the_wire(tmp_path):
    def script(protocol):
        send_structure(protocol, [[0, 0, 0], [1.1, 0, 0]])
        protocol.sendmsg("GETFORCE")
        assert protocol.recvmsg() == "FORCEREADY"
        energy = protocol.recv(1, np.float64)
        protocol.recv(1, np.int32)
        forces = protocol.recv((2, 3), np.float64)
        protocol.recv(9, np.float64)
        assert protocol.recv(1, np.int32) == 1
        assert protocol.recv(1, np.byte) == ord(" ")
        return energy[0], forces[0, 0]

    dimer = Atoms("Ar2", [[0, 0, 0], [1.1, 0, 0]])
    dimer.calc = LennardJones()
    (energy, force), _ = served(dimer, script, tmp_path, calculator=LennardJones())
    assert energy * 27.211386 == pytest.approx(dimer.get_potential_energy(), rel=1e-7)
    assert force * 51.422067 == pytest.approx(dimer.get_forces()[0, 0], rel=1e-7)


def test_a_structure_costs_one_evaluation(tmp_path):
    calls = []
    calculator = Changed(lambda results, atoms: calls.append(1))
    served(crystal(), ask([crystal(1), crystal(2)]), tmp_path, calculator=calculator)
    assert len(calls) == 3  # INPUT, to see that it can be computed


def test_head_and_tags_are_decided_for_input(tmp_path):
    met = []

    class Deciding(EMT):
        def meet(self, list_of_atoms):
            met.extend(atoms.positions.copy() for atoms in list_of_atoms)
            return [None for _ in list_of_atoms]

    frames = [crystal(1), crystal(2)]
    served(crystal(), ask_batch(frames), tmp_path, calculator=Deciding())
    np.testing.assert_array_equal(met, [crystal().positions] * 2)


def test_fixed_atoms_are_left_to_the_other_program(tmp_path):
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 1]))
    (found,), _ = served(atoms, ask([crystal(1)]), tmp_path)
    direct = EMT().get_property("forces", crystal(1))
    np.testing.assert_allclose(found["forces"], direct, rtol=0, atol=1e-10)


def test_a_molecule_does_not_see_the_cell_of_the_other_program(tmp_path):
    atoms = molecule("CH3OH")
    boxed = atoms.copy()
    boxed.cell = [6.0, 7.0, 8.0]
    (found,), _ = served(atoms, ask([boxed]), tmp_path)
    direct = EMT().get_property("forces", atoms)
    np.testing.assert_allclose(found["forces"], direct, rtol=0, atol=1e-10)
    assert not found["virial"].any()


@pytest.mark.parametrize(
    ("atoms", "calculator"),
    [
        (fcc111("Cu", (2, 2, 2), vacuum=6.0), EMT()),
        (crystal(), type("NoStress", (LennardJones,), {})()),
    ],
    ids=["slab", "calculator"],
)
def test_without_stress_there_are_zeros_for_the_virial(atoms, calculator, tmp_path):
    if isinstance(calculator, LennardJones):
        calculator.implemented_properties = ["energy", "forces"]
    (found,), _ = served(atoms, ask([atoms]), tmp_path, calculator=calculator)
    assert not found["virial"].any()
    assert summary(tmp_path)["results"]["has_virial"] is False


def test_the_spread_of_a_committee_is_json_in_the_extras(tmp_path):
    def change(results, atoms):
        results["energy_std"] = 0.25
        results["forces_std"] = np.full((len(atoms), 3), 0.5)

    class Committee(Changed):
        def evaluate(self, frames, properties=()):
            names = ("energy", "forces", "stress")
            found = []
            for atoms in frames:
                self.calculate(atoms, names)
                found.append(self.results)
            return found

    (found,), _ = served(
        crystal(), ask([crystal()]), tmp_path, calculator=Committee(change)
    )
    extra = json.loads(bytes(found["morebytes"].astype(np.uint8)))
    assert extra["energy_std_eV"] == 0.25
    assert extra["forces_std_eV_per_A"] == [[0.5] * 3] * 4


def test_one_model_has_no_extras(tmp_path):
    (found,), _ = served(crystal(), ask([crystal()]), tmp_path)
    assert bytes(found["morebytes"].astype(np.uint8)) == b" "


def test_a_program_that_starts_later_is_waited_for(tmp_path):
    with Asking(ask([crystal()]), after_s=0.6) as other:
        settings = ServeSettings(port=other.port, wait_s=30.0)
        result = run_serve(
            crystal(), settings, calculator=EMT(), out=tmp_path, stem="cu"
        )
    assert result.n_structures == 1


def test_a_unix_socket_works_like_a_port(tmp_path):
    path = tmp_path / "socket"
    with Asking(ask([crystal()]), path=path) as other:
        settings = ServeSettings(unix_socket=str(path))
        run_serve(crystal(), settings, calculator=EMT(), out=tmp_path, stem="cu")
    direct = EMT().get_property("energy", crystal())
    assert other.result[0]["energy"] == pytest.approx(direct)


def test_a_program_that_does_not_send_init_is_served(tmp_path):
    def script(protocol):
        states = [protocol.status()]
        send_structure(protocol, crystal().positions, crystal().cell.array)
        states.append(protocol.status())
        states.append(protocol.sendrecv_force()[0])
        return [*states, protocol.status()]

    (first, second, energy, last), _ = served(crystal(), script, tmp_path)
    assert (first, second, last) == ("NEEDINIT", "HAVEDATA", "READY")
    assert energy == pytest.approx(EMT().get_property("energy", crystal()))


def test_a_batch_of_ipi_is_computed_together(tmp_path):
    frames, sizes = [crystal(seed) for seed in range(3)], []

    class Batched(EMT):
        def evaluate(self, list_of_atoms, properties):
            sizes.append(len(list_of_atoms))
            return [
                {name: EMT().get_property(name, atoms) for name in properties}
                for atoms in list_of_atoms
            ]

    found, result = served(crystal(), ask_batch(frames), tmp_path, calculator=Batched())
    assert sizes == [1, 3, 3]
    assert result.n_structures == 6
    tight = {"rtol": 0, "atol": 1e-10}
    for results in found:
        for frame, energy, forces, virial in zip(frames, *results, strict=True):
            frame.calc = EMT()
            assert energy == pytest.approx(frame.get_potential_energy())
            np.testing.assert_allclose(forces, frame.get_forces(), **tight)
            expected = -frame.get_volume() * frame.get_stress(voigt=False)
            np.testing.assert_allclose(virial, expected, **tight)


def test_closing_after_the_last_forces_is_an_end(tmp_path):
    def script(protocol):
        protocol.calculate(crystal().positions, crystal().cell.array)

    _, result = served(crystal(), script, tmp_path)
    assert (result.status, result.n_structures) == ("closed", 1)
    assert "i-PI only if it has died" in summary(tmp_path)["reason"]


def garbage(protocol):
    protocol.socket.sendall(b"HTTP/1.1 400 Bad Request")


def broken_off(protocol):
    protocol.sendmsg("POSDATA")
    protocol.send(np.eye(3), np.float64)


def dead_before_forces(protocol):
    send_structure(protocol, crystal().positions, crystal().cell.array)
    protocol.status()


def too_early(protocol):
    protocol.sendmsg("GETFORCE")


def silent(protocol):
    protocol.socket.settimeout(30)
    protocol.socket.recv(1)


def blown_up(protocol):
    send_structure(protocol, np.full((4, 3), np.nan), crystal().cell.array)


def other_atoms(protocol):
    send_structure(protocol, np.zeros((1, 3)), crystal().cell.array)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (garbage, "sent b'HTTP/1.1 400', which is no word of the i-PI protocol"),
        (broken_off, "closed the connection in the middle of a message"),
        (dead_before_forces, "closed the connection before it took the last forces"),
        (too_early, "asks for forces and has sent no structure"),
        (silent, "said nothing for 0.3 s"),
        (blown_up, "not finite; its run has blown up"),
        (other_atoms, "has 1 atoms and INPUT has 4"),
    ],
)
def test_faults_of_the_other_program_are_told(script, message, tmp_path):
    with pytest.raises(DataError, match=message):
        served(crystal(), script, tmp_path, timeout_s=0.3)
    about = summary(tmp_path)
    assert about["status"] == "failed"
    assert message in about["reason"]


def test_results_that_are_not_finite_are_not_sent(tmp_path):
    calls = []

    def spoil(results, atoms):
        calls.append(1)
        if len(calls) > 1:
            results["forces"][0, 0] = np.nan

    def script(protocol):
        with contextlib.suppress(OSError):
            ask([crystal(1)])(protocol)

    with pytest.raises(UnsupportedSystemError, match="forces came out not finite"):
        served(crystal(), script, tmp_path, calculator=Changed(spoil))


def test_a_structure_that_cannot_be_computed_is_told_before_the_connection(tmp_path):
    with pytest.raises(UnsupportedSystemError, match="No EMT-potential for Fe"):
        run_serve(
            bulk("Fe"),
            ServeSettings(port=9, wait_s=0.0),
            calculator=EMT(),
            out=tmp_path,
            stem="cu",
        )
    assert not list(tmp_path.iterdir())


WATER = molecule("H2O")
BOX = np.diag([10.0, 11.0, 12.0])


@pytest.mark.parametrize("atoms", [WATER, fcc111("Cu", (1, 1, 2), vacuum=5.0)])
def test_wrapping_of_what_is_not_periodic_is_told(atoms, tmp_path):
    cell = BOX if not atoms.pbc.any() else atoms.cell.array
    torn = atoms.positions.copy()
    torn[-1] += cell[2]

    def script(protocol):
        send_structure(protocol, atoms.positions, cell)
        send_structure(protocol, torn, cell)

    with pytest.raises(DataError, match="<ffsocket pbc='False'>"):
        served(atoms, script, tmp_path)


def test_a_molecule_may_move_as_a_whole_and_a_crystal_may_be_wrapped(tmp_path):
    moved = WATER.copy()
    moved.cell = BOX
    moved.positions += BOX[0] + 0.3
    assert len(served(WATER, ask([moved]), tmp_path / "a")[0]) == 1
    wrapped = crystal()
    wrapped.positions[1] += wrapped.cell.array.sum(axis=0)
    (found,), _ = served(crystal(), ask([wrapped]), tmp_path / "b")
    direct = EMT().get_property("energy", crystal())
    assert found["energy"] == pytest.approx(direct)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_ends_the_waiting_with_a_summary(tmp_path):
    def script(protocol):
        found = protocol.calculate(crystal().positions, crystal().cell.array)
        os.kill(os.getpid(), signal.SIGINT)
        protocol.socket.settimeout(30)
        protocol.socket.recv(1)
        return found

    _, result = served(crystal(), script, tmp_path)
    assert (result.status, result.reason) == ("interrupted", "Ctrl-C")
    assert summary(tmp_path)["results"]["n_structures"] == 1


def test_nobody_listens_is_told_after_a_stated_time(tmp_path, monkeypatch):
    attempts = []
    monkeypatch.setattr(connection, "RETRY_S", 0.02)
    attempt = connection._attempt
    monkeypatch.setattr(
        connection, "_attempt", lambda *a: (attempts.append(1), attempt(*a))[1]
    )
    settings = ServeSettings(unix_socket=str(tmp_path / "none"), wait_s=0.1)
    with pytest.raises(DataError, match=r"nobody listens at the UNIX .* after 0\.1 s"):
        connection.Connection(settings)
    assert len(attempts) > 2


def test_a_machine_that_does_not_exist_is_told_at_once():
    settings = ServeSettings(host="no-such-machine.invalid")
    with pytest.raises(DataError, match=r"connect to no-such-machine\.invalid"):
        connection.Connection(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 0}, "port is 0; it must be 1 to 65535"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0; it must be above 0"),
        ({"wait_s": -1.0}, "wait_s is -1.0; it must be 0 or above"),
        ({"unix_socket": "a", "port": 5}, "takes the place of host and port"),
        ({"unix_socket": "a", "host": "b"}, "takes the place of host and port"),
        ({"unix_socket": ""}, "unix_socket is empty"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(ArgumentError, match=message):
        ServeSettings(**settings)


def test_forces_come_in_one_piece_without_waiting_for_acknowledgements(tmp_path):
    def script(protocol):
        send_structure(protocol, crystal().positions, crystal().cell.array)
        protocol.sendmsg("GETFORCE")
        return len(protocol.socket.recv(4096))

    n_bytes, _ = served(crystal(), script, tmp_path)
    assert n_bytes == 12 + 8 + 4 + 8 * 3 * 4 + 8 * 9 + 4 + 1
    with Asking(lambda protocol: None) as other:
        settings = ServeSettings(port=other.port)
        with connection.Connection(settings) as found:
            tcp = found._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert tcp
