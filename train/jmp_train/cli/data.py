"""``jmp-train data``: a table of verbs that make stores and look after them."""

from __future__ import annotations

import click

from jmp_calc.cli import CONTEXT, VerbGroup, Verbs

DATA_VERBS: Verbs = {
    "download": (
        "jmp_train.cli.data_download:download",
        "Fetch the published files of a set.",
    ),
    "prepare": (
        "jmp_train.cli.data_prepare:prepare",
        "Turn files into stores to train on.",
    ),
    "check": ("jmp_train.cli.data_stores:check", "Verify every record of stores."),
    "stats": ("jmp_train.cli.data_stores:stats", "Labels and statistics of a store."),
    "sample": ("jmp_train.cli.data_make:sample", "Make new geometries."),
    "conformers": (
        "jmp_train.cli.data_recipe:conformers",
        "Make molecules from a list of SMILES.",
    ),
    "make": ("jmp_train.cli.data_recipe:make", "Make all labelled data of a recipe."),
    "label": ("jmp_train.cli.data_make:label", "Label structures with a calculator."),
}
"""Verb -> where its command is (module:function), and its line in the help."""


@click.group(cls=VerbGroup, verbs=DATA_VERBS, context_settings=CONTEXT)
def data() -> None:
    """Make data to train on, and look after it.

    See 'jmp-train data VERB --help'.
    """
