"""``--config``: a file of options means what the command line would."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import yaml

from jmp_calc.cli import VERBS, jmp_md
from jmp_calc.errors import DataError

WITHOUT = {"models"}
"""Verbs that are groups of commands."""


@pytest.fixture
def parse(tmp_path):
    """Return what a verb is called with, given a file and words."""

    def parsed(verb: str, text: str, *words: str) -> dict:
        path = tmp_path / "options.yml"
        path.write_text(text, encoding="utf-8")
        command = jmp_md.get_command(click.Context(jmp_md), verb)
        return command.make_context(verb, ["--config", str(path), *words]).params

    return parsed


@pytest.mark.parametrize("verb", sorted(set(VERBS) - WITHOUT))
def test_every_option_of_a_verb_can_be_given_in_a_file(verb, parse):
    command = jmp_md.get_command(click.Context(jmp_md), verb)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    words = ["jmp-nano" if p.name == "model" else "a.xyz" for p in arguments]
    if verb == "predict":
        words += ["--model", "jmp-nano"]
    plain = parse(verb, "{}", *words)
    # every option with the value that it has anyway, under each of its names
    given = {
        name[2:]: list(value) if isinstance(value, tuple) else str(value)
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value
        if (value := plain[option.name]) is not None
        for name in option.opts
        if name.startswith("--")
    }
    assert given
    assert parse(verb, yaml.safe_dump(given), *words) == plain


def test_the_command_line_wins(parse):
    found = parse("relax", "steps: 3\nfmax: 0.5", "a.xyz", "--steps", "7")
    assert found["steps"] == 7
    assert found["fmax_eV_per_A"] == 0.5


def test_inputs_and_repeated_options_are_one_or_a_list(parse):
    text = "inputs: [a.xyz, b.xyz]\ncommittee: one\nout: 010\noverwrite: yes"
    found = parse("relax", text)
    assert found["inputs"] == (Path("a.xyz"), Path("b.xyz"))
    assert found["committee"] == ("one",)
    assert found["out"] == Path("010")
    assert found["overwrite"] is True
    assert parse("relax", "committee: [a, b]", "a.xyz")["committee"] == ("a", "b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fmxa: 1", "unknown option 'fmxa'.*did you mean 'fmax'?"),
        ("steps: [1, 2]", "gives steps a list or a table; give one value"),
        ("dtype: {a: 1}", "gives dtype a list or a table"),
        ("committee: [[a]]", "gives committee a list or a table"),
        ("- steps", "holds no table of options"),
        ("", "holds no table of options"),
        ("a: b: c", "cannot read --config"),
    ],
)
def test_a_file_that_means_nothing_is_refused(text, told, parse):
    with pytest.raises(DataError, match=told):
        parse("relax", text, "a.xyz")


@pytest.mark.parametrize("value", ["2.5", "true", "", "abc"])
def test_a_value_of_the_wrong_kind_is_not_rounded(value, parse):
    with pytest.raises(click.BadParameter, match="is not a valid integer"):
        parse("relax", f"steps: {value}", "a.xyz")
