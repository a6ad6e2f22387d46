"""Help of every command of both programs is there before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from jmp_calc.cli import VERBS, jmp_md
from jmp_train.cli import VERBS as TRAIN_VERBS
from jmp_train.cli import jmp_train

PROGRAMS = {"jmp-md": jmp_md, "jmp-train": jmp_train}

LIGHT = {"ase", "click", "filelock", "jaxtyping", "numpy", "tqdm", "yaml"}
"""Packages of others that a help may import; all others have to wait for the work."""

HEAVY_PARTS = ("ase.build", "ase.constraints", "ase.db", "ase.io", "ase.md")
"""Parts of ASE that bring scipy, or a hundred modules of their own."""

PROBE = f"""
import contextlib, io, json, sys
from jmp_calc.cli import main as jmp_md
from jmp_train.cli import main as jmp_train

def heavy():
    files = {{n: getattr(m, "__file__", None) or "" for n, m in sys.modules.items()}}
    packages = {{n.partition(".")[0] for n, f in files.items() if "site-packages" in f}}
    foreign = {{n for n in packages if not n.startswith(("_", "jmp_"))}}
    return (foreign - {LIGHT}) | ({{*{HEAVY_PARTS}, "ase.optimize"}} & set(sys.modules))

found, before = {{}}, set()
for command in json.loads(sys.argv[1]):
    program, *words = command.split()
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = {{"jmp-md": jmp_md, "jmp-train": jmp_train}}[program]([*words, "--help"])
    assert (code, text.getvalue()[:6]) == (0, "Usage:")
    # imports stay, so that each is told of the first command that needs it
    found[command] = sorted(heavy() - before)
    before = heavy()
print(json.dumps(found))
"""


def commands_of(name: str, command: click.Command) -> list[str]:
    """A command and all below it, as they are typed."""
    found = [name]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            found += commands_of(f"{name} {word}", below)
    return found


COMMANDS = [c for name, group in PROGRAMS.items() for c in commands_of(name, group)]


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """Command -> what heavy modules its help imports."""
    words = [sys.executable, "-c", PROBE, json.dumps(COMMANDS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_verbs_and_subcommands_are_found() -> None:
    verbs = {f"jmp-md {verb}" for verb in VERBS}
    assert verbs | {f"jmp-train {verb}" for verb in TRAIN_VERBS} <= set(COMMANDS)
    assert {"jmp-md models verify", "jmp-train data prepare"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command, imported) -> None:
    assert imported[command] == []
