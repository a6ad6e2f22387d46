"""``jmp-md serve``: another program gets what the calculator gives directly."""

from __future__ import annotations

import gc
import socket
import threading

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketIOCalculator
from ase.io import write

from jmp_calc.calculator import JMPCalculator
from jmp_calc.cli import main
from toys.runs import error_line

# ASE's client leaves its socket to the garbage collector if nobody answers
LEFT_OPEN = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def served(atoms, frames, names, *words):
    """Return what a server in a thread gets for frames, and our exit code."""
    write("input.xyz", atoms)
    port, found, listening = free_port(), [], threading.Event()

    def listen():
        with SocketIOCalculator(port=port, timeout=60) as other:
            listening.set()
            for frame in frames:
                found.append({n: other.get_property(n, frame) for n in names})

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait()
    try:
        # the server opens its port with its first structure
        for _ in range(100):
            code = main(["serve", "input.xyz", "--port", str(port), *words])
            if code == 0:
                break
    finally:
        thread.join(timeout=60)
    return code, found


def test_a_crystal_gets_the_direct_forces_and_stress():
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    names = ("energy", "forces", "stress")
    code, found = served(frames[0], frames, names, "--calculator", "emt")
    assert code == 0
    for frame, results in zip(frames, found, strict=True):
        for name in names:
            # units are converted to atomic ones and back
            direct = EMT().get_property(name, frame)
            np.testing.assert_allclose(results[name], direct, atol=1e-9)


def test_a_molecule_gets_the_direct_forces_of_a_model(capsys):
    atoms = molecule("H2O")
    code, (results,) = served(atoms, [atoms], ("forces",), "--model", "jmp-nano")
    assert code == 0
    direct = JMPCalculator("jmp-nano").get_property("forces", atoms)
    np.testing.assert_allclose(results["forces"], direct, atol=1e-5)
    assert "served      1 structures" in capsys.readouterr().out


@LEFT_OPEN
def test_it_says_that_nobody_listens(capsys):
    write("input.xyz", bulk("Cu"))
    words = ["serve", "input.xyz", "--calculator", "emt", "--port", str(free_port())]
    assert main(words) == 2
    assert "start the other program first" in error_line(capsys)
    gc.collect()


@LEFT_OPEN
def test_it_says_that_a_unix_socket_is_not_there(capsys):
    write("input.xyz", bulk("Cu"))
    words = ["serve", "input.xyz", "--calculator", "emt", "--unix-socket", "nobody-x"]
    assert main(words) == 2
    assert "nobody listens at the UNIX socket /tmp/ipi_nobody-x" in error_line(capsys)
    gc.collect()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["input.xyz", "--port", "0"], "port is 0; it must be 1 to 65535"),
        (["input.xyz", "--timeout-s", "-1"], "timeout_s is -1.0; it must be above 0"),
        (["input.xyz", "input.xyz"], "one system and was given 2"),
    ],
)
def test_bad_input_is_told(words, message, capsys):
    write("input.xyz", bulk("Cu"))
    assert main(["serve", *words, "--calculator", "emt"]) == 2
    assert message in error_line(capsys)
