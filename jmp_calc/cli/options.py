"""Command line options made from settings dataclasses, and those that verbs share."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import yaml
from ase import Atoms

from jmp_calc.errors import READ_ERRORS, ArgumentError, DataError, did_you_mean

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
    "--stats-every": "--log-stride",
    "--temp": "--temperature-K",
    "--thermostat": "--ensemble",
    "--traj-every": "--trajectory-stride",
    "--traj-interval": "--trajectory-stride",
}
"""Names that other programs (janus, MACE, ASE) give to options -> ours."""

COMPRESSIONS = (".gz", ".bz2", ".xz")
"""Endings of compressed files, which ASE reads through."""

COMMON_FORMATS = "extended XYZ (.xyz), .traj, .cif, .pdb, POSCAR, .gen, .xsf, .json"
"""Some formats that ASE reads, for messages."""


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
    tags: Literal["auto", "atoms"] = "auto"
    """OC20 tags, for published weights: auto finds them from the geometry, atoms takes
    those of the file (0 sub-surface, 1 surface, 2 adsorbate)."""
    offline: bool = False
    """Fail rather than download weights."""
    calculator: str | None = None
    """Another ASE calculator in place of a model: emt, tblite or module:function."""


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
class Structure:
    """One structure of the input, and where it came from."""

    path: Path
    """Its file."""
    frame: int
    """Its number in the file; negative numbers count from the end."""
    name: str
    """Name for what is made from it, unique among those of one call."""
    atoms: Atoms
    """The structure itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A structure file and which of its structures is meant."""

    path: Path
    """Any file that ASE reads."""
    frame: int = -1
    """Structure to take from a file with several: 0 is the first, -1 the last."""

    @property
    def stem(self) -> str:
        """Name for what is made from the file: its own without endings.

        In lower case where ASE would take a file of that name (POSCAR-final.xyz) for
        one of another format.
        """
        from ase.io.formats import ioformats

        name = self.path.name
        if self.path.suffix in COMPRESSIONS:
            name = self.path.stem
        stem = Path(name).stem
        if any(format.match_name(f"{stem}-traj.traj") for format in ioformats.values()):
            return stem.lower()
        return stem

    def load(self) -> Atoms:
        """Read the structure.

        Raises:
            DataError: If there is no such file, ASE finds no structure in it, or the
                structure is disordered.
        """
        import ase.io
        from ase.io.formats import UnknownFileTypeError

        if not self.path.is_file():
            raise DataError(f"{self.path} {self._problem()}; give a structure file")
        try:
            # a name may hold an "@", which ASE would take for the start of an index
            atoms = ase.io.read(
                self.path, index=self.frame, do_not_split_by_at_sign=True
            )
        except (StopIteration, IndexError) as error:
            if self.frame in (0, -1):
                raise self._unreadable(error) from error
            raise DataError(
                f"{self.path} has no structure {self.frame}; count from 0, or from the "
                "end with -1, -2, ..."
            ) from error
        except (*READ_ERRORS, ase.io.ParseError, UnknownFileTypeError) as error:
            raise self._unreadable(error) from error
        if not isinstance(atoms, Atoms) or len(atoms) == 0:
            raise DataError(f"{self.path} holds no atoms; give a structure file")
        if _is_disordered(atoms):
            raise DataError(
                f"{self.path} has sites that are shared by elements or partly empty, "
                "which no single structure is; give one ordered arrangement"
            )
        return atoms

    def _problem(self) -> str:
        if self.path.is_dir():
            return "is a folder"
        if self.path.exists() or str(self.path) == "-":
            return "is not a regular file, and structures are not read from a pipe"
        return "does not exist"

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"cannot read structure {self.frame} of {self.path} "
            f"({str(error) or 'no structure found'}); any "
            f"format that ASE knows will do, such as {COMMON_FORMATS}; "
            "'ase info --formats' lists them all"
        )


def read_frames(path: Path) -> list[Atoms]:
    """Read all structures of a file.

    Args:
        path: Any file that ASE reads.

    Raises:
        DataError: If there is no such file, or ASE finds no structure in it.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {problem}; give a file of structures")
    try:
        frames = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except (*READ_ERRORS, ase.io.ParseError, UnknownFileTypeError) as error:
        raise DataError(
            f"cannot read structures from {path} ({type(error).__name__}: {error}); "
            f"any format that ASE knows will do, such as {COMMON_FORMATS}"
        ) from error
    frames = [atoms for atoms in frames if isinstance(atoms, Atoms) and len(atoms)]
    if not frames:
        raise DataError(f"{path} holds no atoms; give a file of structures")
    return frames


def _is_disordered(atoms: Atoms) -> bool:
    # ASE's CIF reader takes the majority element of a site and tells the rest here
    occupancy = atoms.info.get("occupancy")
    if not isinstance(occupancy, dict):
        return False
    return any(
        len(site) > 1 or min(site.values()) < 0.99
        for site in occupancy.values()
        if isinstance(site, dict) and site
    )


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take defaults of the other options from a YAML file."""
    if path is None:
        return
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read --config {path}: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise DataError(
            f"--config {path} holds no table of options; write one per line, such as "
            "'steps: 1000'"
        )
    names = {_option_key(p): p.name for p in ctx.command.params if p.expose_value}
    ctx.default_map = {}
    for key, value in given.items():
        plain = key.replace("-", "_").lower()
        if plain not in names:
            raise DataError(
                f"--config {path} has the unknown option {key!r}; there are "
                f"{', '.join(names)}{did_you_mean(plain, names)}"
            )
        ctx.default_map[str(names[plain])] = value


def _option_key(parameter: click.Parameter) -> str:
    """Return what an option is called in a file: its long name with underscores."""
    long = [name for name in parameter.opts if name.startswith("--")]
    name = long[0][2:] if long else str(parameter.name)
    return name.replace("-", "_").lower()


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


def structures_argument(
    *, default_frame: str = "-1"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for INPUT... and ``--frame``; the command gets ``structures``.

    Args:
        default_frame: Which structures of a file are taken: a number, or ``:`` for all.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.argument(
            "inputs",
            metavar="INPUT...",
            nargs=-1,
            required=True,
            type=click.Path(path_type=Path),
        )
        @click.option(
            "--frame",
            default=default_frame,
            show_default=True,
            help="Structure to take from each file: 0 is the first, -1 the last, "
            "':' all.",
        )
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            structures = read_structures(values.pop("inputs"), values.pop("frame"))
            return command(*args, structures=structures, **values)

        return wrapped

    return decorate


def read_structures(paths: Sequence[Path], frame: str) -> list[Structure]:
    """Read the structures of several files, each with a name of its own.

    Args:
        paths: Files in any format of ASE.
        frame: Number of the structure to take from each file, or ``:`` for all.

    Raises:
        ArgumentError: If ``frame`` is neither.
        DataError: If a file has no such structure.
    """
    if frame != ":" and not frame.lstrip("-").isdigit():
        raise ArgumentError(
            f"--frame is {frame!r}; give a number (0 first, -1 last) or ':' for all"
        )
    found: list[tuple[Path, int, str, Atoms]] = []
    for path in paths:
        if frame == ":":
            frames = read_frames(path)
            stem = Source(path=path).stem
            found += [
                (path, number, f"{stem}-{number}" if len(frames) > 1 else stem, atoms)
                for number, atoms in enumerate(frames)
            ]
        else:
            source = Source(path=path, frame=int(frame))
            found.append((path, source.frame, source.stem, source.load()))
    counts = Counter(name for _, _, name, _ in found)
    seen: Counter[str] = Counter()
    structures = []
    for path, number, stem, atoms in found:
        seen[stem] += 1
        name = f"{stem}-{seen[stem]}" if counts[stem] > 1 else stem
        structures.append(Structure(path=path, frame=number, name=name, atoms=atoms))
    return structures


def source_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument INPUT and ``--frame``; the command gets ``source``."""
    help_of = field_help(Source)

    @click.argument("input", type=click.Path(path_type=Path))
    @click.option(
        "--frame",
        type=int,
        default=Source.__dataclass_fields__["frame"].default,
        show_default=True,
        help=help_of["frame"],
    )
    @functools.wraps(command)
    def wrapped(*args: Any, **values: Any) -> Any:
        source = Source(path=values.pop("input"), frame=values.pop("frame"))
        return command(*args, source=source, **values)

    return wrapped


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
