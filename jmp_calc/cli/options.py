"""Command line options made from settings dataclasses, and those that verbs share."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import yaml

from jmp_calc.errors import ArgumentError, DataError, did_you_mean

FOREIGN_OPTIONS = {
    "--arch": "--model",
    "--calc": "--calculator",
    "--cell-filter": "--move",
    "--default-dtype": "--dtype",
    "--dt": "--timestep-fs",
    "--file-prefix": "--out",
    "--index": "--frame",
    "--log-every": "--log-stride",
    "--loginterval": "--log-stride",
    "--maxstep": "--max-step-A",
    "--model-path": "--model",
    "--nsteps": "--steps",
    "--opt-cell": "--move",
    "--opt-cell-fully": "--move",
    "--output": "--out",
    "--output-dir": "--out",
    "--prefix": "--out",
    "--restart": "--resume",
    "--stats-every": "--log-stride",
    "--temp": "--temperature-K",
    "--thermostat": "--ensemble",
    "--traj-every": "--trajectory-stride",
    "--traj-interval": "--trajectory-stride",
}
"""Names that other programs (janus, MACE, ASE) give to options -> ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Which model computes energies and forces, and how."""

    model: str = "jmp-nano"
    """Name from 'jmp-md models', or the path of a weights file."""
    head: str | None = None
    """Task of the model; by default the one that covers the structure."""
    forces: Literal["gradient", "direct"] | None = None
    """Force kind; by default the one that the head was trained for."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1 (the second GPU)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network."""
    compile: bool = False
    """Compile the network at the start, in a minute or two; the results are checked.
    For GPUs, where it has not been measured; nothing is gained on the CPU."""
    approximate: Literal["tf32", "bf16"] | None = None
    """Compute with fewer digits: tf32 (10 bits, with --device cuda only) or bf16 (7
    bits, whose errors of forces show); by default exact."""
    recompute: bool = False
    """Compute each block of the network again for gradients: the same results in less
    memory (half or less for large crystals with S and L, little less with jmp-nano) and
    more time. By default where memory might not suffice."""
    tags: Literal["auto", "atoms"] = "auto"
    """OC20 tags, for published weights: auto finds them from the geometry, atoms takes
    those of the file (0 sub-surface, 1 surface, 2 adsorbate)."""
    offline: bool = False
    """Fail rather than download weights."""
    calculator: str | None = None
    """Another ASE calculator in place of a model: emt, tblite or module:function."""
    d3: str | None = None
    """Add D3(BJ) dispersion with the parameters of this functional, such as pbe; it
    should be the one that the model was trained on."""
    committee: tuple[str, ...] = ()
    """A further model to average with, by name or path; may be repeated. The spread
    between the models is computed too."""

    def __post_init__(self) -> None:
        """Check that options do not exclude each other."""
        own = ("approximate", "compile", "recompute")
        given = [name for name in own if getattr(self, name)]
        if self.calculator is not None and given:
            raise ArgumentError(
                f"--{given[0]} is for models, and --calculator {self.calculator} is "
                "used in place of them; leave one out"
            )
        if self.d3 is not None and self.calculator is not None:
            raise ArgumentError(
                f"--d3 {self.d3} is for models, whose level of theory is known, and "
                f"not for --calculator {self.calculator}; leave one out"
            )
        if self.committee and self.calculator is not None:
            raise ArgumentError(
                f"--committee averages models, and --calculator {self.calculator} is "
                "used in place of them; leave one out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Where results go."""

    out: Path | None = None
    """Folder for the results; by default a new one, runs/INPUT-1, -2, ..."""
    overwrite: bool = False
    """Replace existing files in --out."""
    plot: bool = False
    """Also draw pictures."""
    picture_format: Literal["png", "svg"] = "png"
    """Format of the pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumableOptions(OutputOptions):
    """Where results go, of work that can be stopped and go on."""

    resume: bool = False
    """Go on with work in --out that was stopped or did not converge: what is known from
    it is not computed again, and the results are those of work that was never stopped.
    Settings may be others. Begins the work if there is none."""


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take defaults of the other options from a YAML file."""
    if path is None:
        return
    try:
        # all values are texts, as on the command line: no 010 becomes 8, no 2.5 a 2
        given = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read --config {path}: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise DataError(
            f"--config {path} holds no table of options; write one per line, such as "
            "'steps: 1000'"
        )
    known = {
        key: parameter
        for parameter in ctx.command.params
        if parameter.expose_value
        for key in _option_keys(parameter)
    }
    ctx.default_map = {}
    for key, value in given.items():
        plain = key.replace("-", "_").lower()
        if plain not in known:
            raise DataError(
                f"--config {path} has the unknown option {key!r}; there are "
                f"{', '.join(known)}{did_you_mean(plain, known)}"
            )
        parameter = known[plain]
        takes_many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) for one in values) or (
            isinstance(value, list) and not takes_many
        ):
            raise DataError(
                f"--config {path} gives {key} a list or a table; give one value"
            )
        ctx.default_map[str(parameter.name)] = values if takes_many else value


def _option_keys(parameter: click.Parameter) -> list[str]:
    """Return what an option is called in a file: long names with underscores."""
    long = [name[2:] for name in parameter.opts if name.startswith("--")]
    return [name.replace("-", "_").lower() for name in long or [str(parameter.name)]]


class HintingCommand(click.Command):
    """A command that knows other programs' names of options, and reads ``--config``."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Make the command; arguments as for ``click.Command``."""
        super().__init__(*args, **settings)
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(dir_okay=False, path_type=Path),
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="YAML file of options, 'steps: 1000'; the command line wins.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; tell the likely meaning of an option that does not exist."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [
                name
                for parameter in self.params
                for name in parameter.opts
                if name.startswith("--")
            ]
            likely = [
                name
                for name in known
                if name.lower().startswith(error.option_name.lower())
            ]
            if FOREIGN_OPTIONS.get(error.option_name) in known:
                likely = [FOREIGN_OPTIONS[error.option_name]]
            if not likely:
                raise
            raise click.UsageError(
                f"No such option {error.option_name!r}; did you mean "
                f"{' or '.join(likely)}?",
                ctx,
            ) from None


def settings_options(
    settings: type,
    name: str,
    *,
    choices: Mapping[str, Sequence[str]] | None = None,
    aliases: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command one option per field of a dataclass.

    Name, default, unit and help are those of the field; the command gets the
    dataclass, checked, as one keyword argument.

    Args:
        settings: A dataclass with defaults and a docstring under each field.
        name: Keyword argument of the command.
        choices: Allowed values of text fields, where the type does not say them.
        aliases: Second option name by field.
        defaults: Other defaults than those of the dataclass, by field.
    """
    names = [field.name for field in dataclasses.fields(settings)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            chosen = settings(**{field: values.pop(field) for field in names})
            return command(*args, **{name: chosen}, **values)

        options = _options(settings, choices or {}, aliases or {}, defaults or {})
        # a decorator applied later is listed earlier
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def field_help(settings: type) -> dict[str, str]:
    """Return the docstring under each field of a class, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(settings))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, settings.__bases__):
        found |= field_help(base)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _options(
    settings: type,
    choices: Mapping[str, Sequence[str]],
    aliases: Mapping[str, str],
    defaults: Mapping[str, Any],
) -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    help_of = field_help(settings)
    type_of = typing.get_type_hints(settings)
    return [
        click.option(
            "--" + field.name.replace("_", "-"),
            *([aliases[field.name]] if field.name in aliases else []),
            field.name,
            is_flag=type_of[field.name] is bool,
            multiple=typing.get_origin(type_of[field.name]) is tuple,
            type=_click_type(type_of[field.name], choices.get(field.name)),
            default=defaults.get(field.name, field.default),
            show_default=not any(field.default is x for x in (None, False, ())),
            help=help_of[field.name],
        )
        for field in dataclasses.fields(settings)
    ]


def _click_type(hint: Any, choices: Sequence[str] | None) -> Any:
    """Return the click type of a field's type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        # "x or None": the option is simply not given
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        # a tuple of any length: the option may be repeated
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
    return click.Choice(list(choices), case_sensitive=False) if choices else hint
