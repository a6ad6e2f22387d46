"""The script for SLURM: its options exist, and it asks for another turn when due."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from jmp_train.cli.pretrain import pretrain

SCRIPT = Path(__file__).parents[3] / "train" / "slurm" / "pretrain.sbatch"


def command() -> str:
    """The command that each node runs, on one line."""
    lines = SCRIPT.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (line,) = (line for line in lines if line.startswith("srun "))
    return line


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def test_bash_can_read_the_script() -> None:
    checked = subprocess.run(
        ["bash", "-n", SCRIPT], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_options_of_pretrain_exist() -> None:
    _, _, own = command().partition("-m jmp_train pretrain")
    known = {name for parameter in pretrain.params for name in parameter.opts}
    assert options_in(own) == {"--stores", "--out", "--auto-resume"} & known


def test_the_options_of_torchrun_exist() -> None:
    from torch.distributed.run import get_args_parser

    given = command().partition("torchrun")[2].partition("-m jmp_train")[0]
    known = {
        name for action in get_args_parser()._actions for name in action.option_strings
    }
    assert {"--max-restarts", "--rdzv-endpoint"} <= options_in(given) <= known


FAKE_SRUN = """#!/bin/bash
echo "$@" > "$FAKES/srun"
if [ -n "$REASON" ]; then echo "  \\"reason\\": \\"$REASON\\"" > "$RUN/summary.json"; fi
exit $STATUS
"""
FAKE_SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" > "$FAKES/requeued"; fi
"""


def submit(folder: Path, *, status: int, reason: str) -> int:
    """Run the script with stand-ins for the commands of SLURM; return its exit code."""
    for name, text in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    settings = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "FAKES": str(folder),
        "RUN": str(folder / "run"),
        "STATUS": str(status),
        "REASON": reason,
        "SLURM_JOB_ID": "123",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "32",
    }
    return subprocess.run(
        ["bash", SCRIPT, "jmp-small", "stores", folder / "run", "--seed", "3"],
        env=os.environ | settings,
        check=False,
    ).returncode


def test_every_node_meets_at_the_first_one_and_gets_all_options(tmp_path) -> None:
    assert submit(tmp_path, status=0, reason="finished") == 0
    words = (tmp_path / "srun").read_text()
    assert "--nnodes 2 --nproc-per-node 4" in words
    assert "--rdzv-endpoint node7:20123" in words
    assert words.endswith(f"--out {tmp_path / 'run'} --auto-resume --seed 3\n")


@pytest.mark.parametrize(
    ("status", "reason", "is_requeued", "code"),
    [
        (0, "finished", False, 0),
        (0, "early", False, 0),
        (1, "interrupted", True, 0),
        (2, "", False, 2),
        (1, "finished", False, 1),
    ],
)
def test_only_an_interrupted_run_is_queued_again(
    tmp_path, status, reason, is_requeued, code
) -> None:
    assert submit(tmp_path, status=status, reason=reason) == code
    assert (tmp_path / "requeued").exists() is is_requeued


def test_a_run_that_fails_after_an_interruption_is_not_queued_for_ever(
    tmp_path,
) -> None:
    (tmp_path / "run").mkdir()
    summary = tmp_path / "run" / "summary.json"
    summary.write_text('"reason": "interrupted"')
    os.utime(summary, (1, 1))
    assert submit(tmp_path, status=2, reason="") == 2
    assert not (tmp_path / "requeued").exists()


def test_nothing_is_left_in_the_folder_of_the_run(tmp_path) -> None:
    submit(tmp_path, status=0, reason="finished")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["summary.json"]
