"""Finished parts -> stores: shards are joined in the order of the parts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmp_calc.errors import DataError
from jmp_calc.files import replace_text
from jmp_train.data.header import (
    count_facts,
    publish,
    read_header,
    write_header,
)
from jmp_train.data.shards import (
    OPEN_SHARDS,
    ShardFacts,
    join_fingerprints,
    join_shards,
)
from jmp_train.data.source import SetFacts
from jmp_train.data.splits import Split
from jmp_train.normalize import StatisticsAccumulator
from jmp_train.workers import Pulse

Piece = tuple[Path, ShardFacts]
"""A shard of a part, and what is known about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinJob:
    """Shards of parts that become one shard of a store."""

    pieces: tuple[Piece, ...]
    """They, in order."""
    out: Path
    """The shard; beside it, a file with ``.json`` says that it is finished."""


def plan_shards(pieces: Sequence[Piece], per_shard: int) -> list[list[Piece]]:
    """Return which shards of parts are joined, in order.

    Args:
        pieces: Shards of all parts, in order.
        per_shard: Largest number of records together.
    """
    groups: list[list[Piece]] = []
    n_records = 0
    for piece in pieces:
        n_records += piece[1].n_systems
        if not groups or n_records > per_shard:
            groups.append([])
            n_records = piece[1].n_systems
        groups[-1].append(piece)
    return groups


def join_jobs(
    pieces: Sequence[Piece], folder: Path, *, per_shard: int
) -> list[JoinJob]:
    """Return the jobs that make the shards of a store.

    Args:
        pieces: Shards of all parts, in order.
        folder: Where the shards of the store go.
        per_shard: Largest number of records in one.
    """
    return [
        JoinJob(pieces=tuple(group), out=folder / f"shard-{number:05d}.lmdb")
        for number, group in enumerate(plan_shards(pieces, per_shard))
    ]


def run_join(_shared: Any, job: JoinJob, pulse: Pulse) -> JoinJob:
    """Make one shard of a store, unless it is there; the shards of the parts go.

    Args:
        _shared: Not used.
        job: Which shards, and where to.
        pulse: Called once.

    Raises:
        DataError: If a shard is damaged, or the new one cannot be written.
    """
    pulse()
    if finished_shard(job) is not None:
        return job
    job.out.parent.mkdir(parents=True, exist_ok=True)
    if len(job.pieces) > 1:
        facts = join_shards(job.pieces, job.out)
    else:
        ((path, found),) = job.pieces
        # A shard that is large enough is moved, not copied.
        if path.exists():
            os.replace(path, job.out)
        facts = replace(found, file=job.out.name)
    replace_text(_note(job), json.dumps(facts.to_json()))
    OPEN_SHARDS.close_all()
    for path, _ in job.pieces:
        path.unlink(missing_ok=True)
    return job


def finished_shard(job: JoinJob) -> ShardFacts | None:
    """Return what is known of a shard of a store that is finished, or None.

    Args:
        job: How it is made.
    """
    try:
        return ShardFacts.from_json(json.loads(_note(job).read_text(encoding="utf-8")))
    except (OSError, ValueError, DataError):
        return None


def has_joined(folder: Path) -> bool:
    """Return whether shards of stores have been made of shards of parts.

    Args:
        folder: Where those of the parts are.
    """
    return any(folder.glob("*-shard-*.json"))


def _note(job: JoinJob) -> Path:
    return job.out.parent.parent / f"{job.out.parent.name}-{job.out.stem}.json"


def publish_store(
    jobs: Sequence[JoinJob],
    path: Path,
    facts: dict[str, Any],
    *,
    target_units: dict[str, str],
) -> dict[str, Any]:
    """Put a store of finished shards in its place and return its header.

    Args:
        jobs: All of its shards.
        path: Its place.
        facts: For the header.
        target_units: Units of the targets.

    Raises:
        DataError: If a shard is absent.
    """
    shards = [finished_shard(job) for job in jobs]
    known = [shard for shard in shards if shard is not None]
    folder = jobs[0].out.parent
    if folder.exists():
        write_header(folder, known, facts, target_units=target_units)
        publish(folder, path)
    # If the folder is gone, a run that was killed has published it already.
    header = read_header(path)
    if header["fingerprint"] != join_fingerprints([s.fingerprint for s in known]):
        raise DataError(
            f"{path} is not the store that was prepared, whose shards are gone; delete "
            f"{folder.parent} and prepare it again"
        )
    return header


def header_facts(
    facts: SetFacts, split: Split, counted: StatisticsAccumulator
) -> dict[str, Any]:
    """Return what a header says about a set.

    Args:
        facts: The set.
        split: The part that the store holds.
        counted: What was counted in that part.
    """
    own = {
        "title": facts.title,
        "level_of_theory": facts.level_of_theory,
        "licence": facts.licence,
        "citation": facts.citation,
    }
    origins = [
        {
            "title": origin.title,
            "level_of_theory": origin.level_of_theory,
            "licence": origin.licence,
            "citation": origin.citation,
        }
        for origin in facts.origins
    ]
    return {
        "task": facts.name,
        "split": split,
        "title": facts.title,
        "domain": facts.domain,
        "level_of_theory": facts.level_of_theory,
        "licence": facts.licence,
        "coverage": facts.coverage,
        "is_default": facts.is_default,
        "datasets": origins or [own],
        "atom_energies": {str(z): e for z, e in facts.atom_energies.items()},
        **count_facts(counted.labels, counted.element_systems),
        "statistics": counted.finish().to_json(),
    }
