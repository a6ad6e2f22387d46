"""``jmp-md models``: which models there are, and their files."""

from __future__ import annotations

import json
import sys

import click

from jmp_calc.cli.references import fit_references
from jmp_calc.pretrained.storage import (
    HOME_VARIABLE,
    Presence,
    cache_folder,
    fetch,
    path_of,
    presence,
    read_record,
    source_of,
    verify,
)
from jmp_calc.pretrained.table import PRETRAINED, Pretrained, find_pretrained
from jmp_calc.pretrained.transfer import size_text

NAMES = ", ".join(PRETRAINED)
"""For help texts."""


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the named models, or show, download and check one.

    Without a command: the list.

    Example: jmp-md models
    """
    if context.invoked_subcommand is None:
        _print_list()


models.add_command(fit_references)


@models.command(short_help="Show heads, theory, elements and rules of a model.")
@click.argument("model", metavar="NAME|PATH")
def show(model: str) -> None:
    """Show what a model is for: its heads, their theory, elements and rules.

    NAME is one of 'jmp-md models'; PATH is a weights file.

    Example: jmp-md models show jmp-nano
    """
    from jmp_calc.cli.model_sheet import print_sheet

    entry = PRETRAINED.get(model)
    if entry is None:
        from jmp_calc.pretrained.loading import locate

        print_sheet(locate(model))
        return
    state = presence(entry)
    if state.is_present:
        print_sheet(fetch(entry), entry)
    else:
        _print_absent(entry, state)


@models.command(short_help="Download weights, or go on with it.")
@click.argument("name")
@click.option(
    "--offline", is_flag=True, help="Open no connection: only check what is there."
)
def download(name: str, *, offline: bool) -> None:
    """Download the weights of the model NAME, going on where it was interrupted.

    Example: jmp-md models download jmp-small
    """
    entry = find_pretrained(name)
    state = presence(entry)
    if not (state.is_present or entry.is_bundled or offline):
        _print_start(entry, state)
    try:
        path = fetch(entry, offline=offline)
    except KeyboardInterrupt:
        kept = size_text(presence(entry).partial_bytes)
        print(f"{kept} of {name} are kept; run this again to go on", file=sys.stderr)
        raise
    record = read_record(entry) if not entry.is_bundled else None
    _print_lines(
        {
            "present": str(path),
            "size": size_text(path.stat().st_size),
            "sha256": "part of jmp-calc" if record is None else record.sha256,
            "licence": entry.licence,
            "use": f"jmp-md run INPUT --model {name}",
        }
    )


@models.command(name="verify", short_help="Compare the hash of downloaded weights.")
@click.argument("name")
def verify_command(name: str) -> None:
    """Read the weights of the model NAME in full and compare their hash.

    Example: jmp-md models verify jmp-small
    """
    entry = find_pretrained(name)
    if entry.is_bundled:
        from jmp_calc.pretrained.loading import load_model

        sha256 = load_model(name).info["weights_sha256"]
        against = "complete; as part of jmp-calc it has no recorded hash"
    else:
        record = verify(entry)
        sha256 = record.sha256
        against = f"intact since {record.recorded}"
    _print_lines({"verified": str(path_of(entry)), "sha256": sha256, "file": against})


@models.command(short_help="Print where the weights are or will be.")
@click.argument("name")
def path(name: str) -> None:
    """Print where the weights of the model NAME are, or go once downloaded.

    Example: jmp-md models path jmp-small
    """
    entry = find_pretrained(name)
    state = presence(entry)
    print(state.path)
    if not state.is_present:
        sys.stdout.flush()
        print(f"jmp-md: note: {name} is not there yet", file=sys.stderr)


def _print_list() -> None:
    rows = [("NAME", "SIZE", "HERE", "LICENCE", "HEADS")]
    for entry in PRETRAINED.values():
        state = presence(entry)
        size = "?" if state.size_bytes is None else size_text(state.size_bytes)
        absent = "missing" if entry.is_bundled else "no"
        here = "yes" if state.is_present else absent
        if state.partial_bytes and not state.is_present:
            here = f"{size_text(state.partial_bytes)} of it"
        heads = ", ".join(_head_names(entry, state)) or "?"
        rows.append((entry.name, size, here, entry.licence, heads))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print()
    for entry in PRETRAINED.values():
        print(f"{entry.name.ljust(widths[0])}  {entry.description}")
    print(
        f"\nDownloads go to {cache_folder()} ({HOME_VARIABLE} changes that).\n"
        "'jmp-md models show NAME' tells more, 'jmp-md models download NAME' fetches."
    )


def _head_names(entry: Pretrained, state: Presence) -> list[str]:
    """Return the heads of a model, without torch, so that the list is instant."""
    if entry.heads is not None:
        return list(entry.heads)
    if not state.is_present:
        return []
    import safetensors

    try:
        with safetensors.safe_open(state.path, framework="numpy") as file:
            (header,) = (file.metadata() or {}).values()
        return [head["name"] for head in json.loads(header)["heads"]]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        # 'show' says in full what is wrong with the file
        return ["damaged file"]


def _print_absent(entry: Pretrained, state: Presence) -> None:
    if entry.is_bundled:
        fetch(entry)  # says what is missing and what to do
    size = "size unknown" if entry.size_bytes is None else size_text(entry.size_bytes)
    print(f"{entry.name}: {entry.description}\n")
    _print_lines(
        {
            "file": f"not on this computer ({size}); 'jmp-md models download "
            f"{entry.name}' fetches it",
            "from": source_of(entry),
            "to": str(state.path),
            "licence": entry.licence,
        }
    )
    for head, purpose in (entry.heads or {}).items():
        print(f"{'head':12s}{head:14s}{purpose}")


def _print_start(entry: Pretrained, state: Presence) -> None:
    size = "size unknown" if entry.size_bytes is None else size_text(entry.size_bytes)
    if state.partial_bytes:
        size += f", {size_text(state.partial_bytes)} already here"
    lines = {"model": f"{entry.name} ({size})", "from": source_of(entry)}
    if "NC" in entry.licence.split("-"):
        lines["licence"] = f"{entry.licence}: not for commercial use"
    _print_lines(lines)
    # before the progress bar, which goes to stderr
    sys.stdout.flush()


def _print_lines(lines: dict[str, str]) -> None:
    for label, text in lines.items():
        print(f"{label:12s}{text}")
