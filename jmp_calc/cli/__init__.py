"""The ``jmp-md`` command: a table of verbs, and errors made into exit codes.

A verb is imported when it is called, so that ``jmp-md --help`` is instant; nothing here
imports torch.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import select
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from jmp_calc.errors import JMPError, did_you_mean
from jmp_calc.versions import installed_versions

EXIT_DONE = 0
"""The job is done."""
EXIT_BUG = 1
"""An error that nobody foresaw; Python prints the traceback."""
EXIT_USAGE = 2
"""Wrong usage or input; one line says what to do."""
EXIT_NOT_CONVERGED = 3
"""An iteration ended without reaching its goal."""
EXIT_UNSTABLE = 4
"""A simulation exploded; what it did until then is kept."""
EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C or SIGTERM; what was done until then is kept."""
EXIT_UNREAD = 141
"""Nobody reads what is printed any more ('| head'), as shells know it of SIGPIPE."""

TOLD = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""Errors of the operating system that the user can do something about."""

WORDS = "jmp_calc.words"
"""Key of ``click.Context.meta``: the words after the program's name."""

Verbs = dict[str, tuple[str, str]]

VERBS: Verbs = {
    "run": ("jmp_calc.cli.run:run", "Molecular dynamics from a structure file."),
    "relax": ("jmp_calc.cli.relax:relax", "Relax atoms and cells of structures."),
    "energy": ("jmp_calc.cli.energy:energy", "Energies and forces of whole files."),
    "scan": ("jmp_calc.cli.scan:scan", "Energy along a bond, angle or dihedral."),
    "neb": ("jmp_calc.cli.neb:neb", "Barrier between two structures."),
    "vibrations": (
        "jmp_calc.cli.vibrations:vibrations",
        "Vibrations and thermochemistry of molecules.",
    ),
    "elastic": ("jmp_calc.cli.elastic:elastic", "Elastic constants of crystals."),
    "eos": ("jmp_calc.cli.eos:eos", "Equation of state, bulk modulus."),
    "phonons": ("jmp_calc.cli.phonons:phonons", "Phonons of crystals (phonopy)."),
    "predict": ("jmp_calc.cli.predict:predict", "Properties of structures, as table."),
    "analyze": (
        "jmp_calc.cli.analyze:analyze",
        "A report on trajectories.",
    ),
    "check": ("jmp_calc.cli.check:check", "Is a model safe for dynamics?"),
    "serve": ("jmp_calc.cli.serve:serve", "Compute for i-PI and others (socket)."),
    "models": ("jmp_calc.cli.models:models", "List, download and check weights."),
}
"""Verb -> where its command is (module:function), and its line in the help."""


class VerbGroup(click.Group):
    """A group that imports a verb only when it is called."""

    def __init__(self, *args: Any, verbs: Verbs | None = None, **settings: Any) -> None:
        """Make the group.

        Args:
            args: As for ``click.Group``.
            verbs: Its verbs; None: those of ``jmp-md``.
            settings: As for ``click.Group``.
        """
        super().__init__(*args, **settings)
        self.verbs = VERBS if verbs is None else verbs

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Keep the words of the command line for whoever records them."""
        words = list(args)
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[WORDS] = words
        return context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        """Return the names of all verbs."""
        return list(self.verbs)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's)
        cmd_name: str,
    ) -> click.Command | None:
        """Import and return a verb, or None if there is none of that name."""
        if cmd_name not in self.verbs:
            return None
        module, function = self.verbs[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that is called, or say which there are."""
        if args and args[0] not in self.verbs and not args[0].startswith("-"):
            ctx.fail(
                f"no verb {args[0]!r}; choose one of {', '.join(self.verbs)}"
                f"{did_you_mean(args[0], self.verbs)}"
            )
        return super().resolve_command(ctx, args)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem]:
        """Return the verbs that begin so, without importing them."""
        return [
            *(
                CompletionItem(name, help=text)
                for name, (_, text) in self.verbs.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Call the verb; that nobody reads what it prints is no bug."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            if not _is_unread():
                # of a calculator, or of another program
                raise
            print_no_more()
            return EXIT_UNREAD

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's)
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the table of verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in self.verbs.items()])


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    version = installed_versions(["jmp-calc"]).get("jmp-calc", "(not installed)")
    click.echo(f"{ctx.info_name} {version}")
    ctx.exit()


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of every command."""

version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
"""Decorator that gives a command ``--version``."""


@click.group(name="jmp-md", cls=VerbGroup, context_settings=CONTEXT)
@version_option
def jmp_md() -> None:
    """Simulations with JMP models. See 'jmp-md VERB --help'."""


def _is_unread() -> bool:
    """Return whether the other end of a pipe that is printed to has been closed."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def print_no_more() -> None:
    """Print into nothing from now on, for nobody reads any more, or the disk is full.

    Results are files, so that work goes on.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``jmp-md`` and return its exit code.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    return run_group(jmp_md, "jmp-md", arguments)


def run_group(
    group: click.Group, name: str, arguments: Sequence[str] | None = None
) -> int:
    """Run a command and return its exit code.

    Errors that the user can act on become one line on stderr; others are bugs and
    are raised.

    Args:
        group: The command.
        name: What it is called on the command line.
        arguments: Words after the program's name; None takes those of the process.
    """
    # a terminal without Å shows a question mark
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = group.main(
            args=None if arguments is None else list(arguments),
            prog_name=name,
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except JMPError as error:
        notes = getattr(error, "__notes__", [])
        text = "; ".join([str(error), *notes])
    except OSError as error:
        if error.errno not in TOLD:
            raise
        if error.filename is None:
            print_no_more()
        text = f"{error.strerror}: {error.filename or 'standard output'}"
    else:
        return code if isinstance(code, int) else EXIT_DONE
    print(f"{name}: error: {' '.join(text.split())}", file=sys.stderr)
    return EXIT_USAGE
