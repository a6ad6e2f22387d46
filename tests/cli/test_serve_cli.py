"""``jmp-md serve``: ASE gets what the calculator gives directly; exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketIOCalculator
from ase.io import write

from jmp_calc.calculator import JMPCalculator
from jmp_calc.cli import main
from toys.runs import error_line
from toys.sockets import Asking, ask, send_structure


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def served(atoms, frames, names, *words, **where):
    """Return what ASE's calculator gets for frames, in a thread, and our exit code."""
    write("input.xyz", atoms)
    found = []

    def listen():
        with SocketIOCalculator(**where, timeout=60) as other:
            found.extend({n: other.get_property(n, f) for n in names} for f in frames)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        options = {"port": "--port", "unixsocket": "--unix-socket"}
        place = [str(x) for key, name in where.items() for x in (options[key], name)]
        code = main(["serve", "input.xyz", *place, *words])
    finally:
        thread.join(timeout=60)
    return code, found


def test_a_crystal_gets_the_direct_forces_and_stress_over_a_port(capsys):
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    names, words = ("energy", "forces", "stress"), ("--calculator", "emt")
    code, found = served(frames[0], frames, names, *words, port=free_port())
    assert code == 0
    for frame, results in zip(frames, found, strict=True):
        for name in names:
            # units are converted to atomic ones and back
            direct = EMT().get_property(name, frame)
            np.testing.assert_allclose(results[name], direct, atol=1e-9)
    told = capsys.readouterr().out
    assert "virial      sent" in told
    assert "served      3 structures\n" in told
    assert "closed without EXIT, as ASE does at its end" in told
    with open("runs/input-serve-1/input-serve.yaml", encoding="utf-8") as file:
        about = yaml.safe_load(file)
    assert (about["status"], about["results"]["n_structures"]) == ("closed", 3)
    assert about["inputs"]["files"][0]["file"] == "input.xyz"


def test_a_molecule_gets_the_forces_of_a_model_over_a_unix_socket(capsys):
    atoms = molecule("H2O")
    where = {"unixsocket": f"jmp-{uuid.uuid4().hex[:12]}"}
    code, (results,) = served(atoms, [atoms], ("forces",), **where)
    assert code == 0
    direct = JMPCalculator("jmp-nano").get_property("forces", atoms)
    np.testing.assert_allclose(results["forces"], direct, atol=1e-5)
    assert "keep the cell of the other program fixed" in capsys.readouterr().out


def test_nobody_listens_is_told_and_leaves_nothing(capsys, tmp_path):
    write("input.xyz", bulk("Cu"))
    words = ["--calculator", "emt", "--wait-s", "0", "--unix-socket", "nobody-x"]
    assert main(["serve", "input.xyz", *words]) == 2
    message = "nobody listens at the UNIX socket /tmp/ipi_nobody-x after 0 s"
    assert message in error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["input.xyz"]


def test_a_summary_is_not_replaced_unasked(capsys):
    write("input.xyz", bulk("Cu"))
    words = ["serve", "input.xyz", "--calculator", "emt", "--out", "out"]

    def code(*more: str) -> int:
        with Asking(ask([bulk("Cu")])) as other:
            return main([*words, "--port", str(other.port), *more])

    assert code() == 0
    assert code("--overwrite") == 0
    capsys.readouterr()
    assert main([*words, "--wait-s", "0"]) == 2
    assert "input-serve.yaml exists and would be replaced" in error_line(capsys)


def test_sigterm_ends_it_like_ctrl_c(capsys):
    write("input.xyz", bulk("Cu"))

    def script(protocol):
        found = protocol.calculate(bulk("Cu").positions, bulk("Cu").cell.array)
        os.kill(os.getpid(), signal.SIGTERM)
        protocol.socket.recv(1)
        return found

    with Asking(script) as other:
        words = ["--calculator", "emt", "--port", str(other.port), "--out", "out"]
        assert main(["serve", "input.xyz", *words]) == 130
    assert "interrupted: SIGTERM" in capsys.readouterr().err
    with open("out/input-serve.yaml", encoding="utf-8") as file:
        assert yaml.safe_load(file)["status"] == "interrupted"


def test_a_fault_of_the_other_program_is_one_line(capsys):
    write("input.xyz", bulk("Cu"))

    def script(protocol):
        with contextlib.suppress(OSError):
            ask([bulk("Cu", cubic=True)])(protocol)

    with Asking(script) as other:
        words = ["--calculator", "emt", "--port", str(other.port)]
        assert main(["serve", "input.xyz", *words]) == 2
    line = error_line(capsys)
    assert "has 4 atoms and INPUT has 1" in line
    assert line.endswith("0 structures were computed before")


def test_another_program_that_dies_before_it_takes_forces_is_one_line(capsys):
    write("input.xyz", bulk("Cu"))
    name = f"jmp-{uuid.uuid4().hex[:12]}"

    def script(protocol):
        send_structure(protocol, bulk("Cu").positions, bulk("Cu").cell)
        protocol.sendmsg("GETFORCE")

    words = ["--calculator", "emt", "--unix-socket", name]
    with Asking(script, path=Path(f"/tmp/ipi_{name}")):
        assert main(["serve", "input.xyz", *words]) == 2
    Path(f"/tmp/ipi_{name}").unlink()
    assert "broke (Broken pipe); see what the other program" in error_line(capsys)


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
