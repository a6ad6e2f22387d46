"""The ``jmp-train`` command: a table of verbs; each is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from jmp_calc.cli import (
    CONTEXT,
    EXIT_USAGE,
    VerbGroup,
    Verbs,
    run_group,
    version_option,
)

# Verbs import torch and the trainer when they are called, so that help is instant.

TRAINING_PACKAGES = ("h5py", "lmdb", "scipy", "torch_geometric")
"""Packages of the extra ``train``."""

FOLDER = click.Path(file_okay=False, path_type=Path)
"""A folder on the command line."""

VERBS: Verbs = {
    "data": ("jmp_train.cli.data:data", "Prepare, check, label and sample data."),
    "pretrain": ("jmp_train.cli.pretrain:pretrain", "Pre-train on several tasks."),
    "finetune": ("jmp_train.cli.finetune:finetune", "Fine-tune trained weights."),
    "evaluate": ("jmp_train.cli.evaluate:evaluate", "Errors of trained weights."),
    "experiment": (
        "jmp_train.cli.experiment:experiment",
        "Answer a question about pre-training.",
    ),
    "plot": ("jmp_train.cli.plot:plot", "Curves of one run or several."),
    "export": ("jmp_train.cli.export:export", "A run as one weights file."),
}
"""Verb -> where its command is (module:function), and its line in the help."""


@click.group(name="jmp-train", cls=VerbGroup, verbs=VERBS, context_settings=CONTEXT)
@version_option
def jmp_train() -> None:
    """Train JMP models. See 'jmp-train VERB --help'."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``jmp-train`` and return its exit code.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    try:
        return run_group(jmp_train, "jmp-train", arguments)
    except ModuleNotFoundError as error:
        if error.name not in TRAINING_PACKAGES:
            raise
        print(
            f"jmp-train: error: training needs {error.name}, which is not installed; "
            "run: pip install 'jmp-calc[train]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
