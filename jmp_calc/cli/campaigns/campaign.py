"""A campaign from its options to its exit code."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jmp_calc.cli import EXIT_INTERRUPTED, EXIT_USAGE
from jmp_calc.cli.campaigns.ledger import Ledger, join_texts, merge_tables
from jmp_calc.cli.campaigns.loop import Tally, work_off
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.campaigns.parts import Ended, Part, plain, split
from jmp_calc.cli.campaigns.ray_pool import import_ray, ray_pool
from jmp_calc.cli.campaigns.worker import Work, WorkerPlan
from jmp_calc.cli.job import (
    build_calculator,
    describe,
    describe_forces,
    describe_inputs,
    describe_model,
    one_line_warnings,
    print_facts,
    terminated_like_ctrl_c,
)
from jmp_calc.cli.options import ModelOptions, OutputOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.files import file_hash
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.output import save_summary, versions
from jmp_calc.sim.record import save_table

SHOWN = 20
"""Structures with problems that are listed on the screen; the table has all."""


WEIGHTS = ("model", "committee")
"""Options of a model that name weights files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """One call of a verb over many structures."""

    verb: str
    """Its name."""
    structures: Sequence[Structure]
    """The input."""
    model: ModelOptions
    """What computes."""
    output: OutputOptions
    """Where results go; a folder is needed."""
    options: CampaignOptions
    """Who does it."""
    settings: Sequence[Any]
    """Dataclasses that the results depend on."""
    work: Work
    """What is done."""
    per_task: int = 1
    """Structures that a worker gets at a time unless the options say it."""

    @property
    def folder(self) -> Path:
        """Where results go.

        Raises:
            ArgumentError: If no folder is given.
        """
        if self.output.out is None:
            raise ArgumentError(
                "a campaign needs --out FOLDER, so that a second start finds what is "
                "done"
            )
        # workers have other working folders
        return self.output.out.resolve()

    @property
    def table(self) -> Path:
        """CSV, one row per structure: how it ended."""
        return self.folder / "campaign.csv"

    @property
    def summary(self) -> Path:
        """Inputs, settings, versions and counts, YAML."""
        return self.folder / "campaign-summary.yml"

    def common_files(self) -> list[Path]:
        """Return every file that is made from all results."""
        joined = self.work.common(self.structures[:1], self.folder, "")
        return [self.table, self.summary, *(self.folder / name for name in joined)]

    def run(self) -> int:
        """Do what is missing, and tell how all ended.

        Returns:
            Exit code: 2 if a structure could not be computed, else the worst one.

        Raises:
            JMPError: If the work cannot begin or go on.
        """
        if self.output.plot:
            require_matplotlib()
        folder = self.folder
        import_ray()
        with one_line_warnings() as told, terminated_like_ctrl_c():
            about = self._describe()
            told.extend(about["notes"])
            identity = self._identity(about)
            parts = list(
                split(self.structures, identity["structures_per_task"], identity)
            )
            overwrite = self.output.overwrite
            ledger = Ledger(folder, keeps_attempts=self.work.can_go_on)
            with ledger.opened(
                identity, files=self.common_files(), overwrite=overwrite
            ):
                missing = ledger.missing(parts, overwrite=overwrite)
                self._print_start(about, parts, missing)
                provenance = {
                    "inputs": describe_inputs(self.structures),
                    "model": {
                        **about,
                        "device": self.model.device,
                        "dtype": self.model.dtype,
                    },
                }
                tally = self._do(missing, ledger, about, provenance)
                self._save(parts, ledger, tally, provenance)
            return self._print_end(parts, ledger, tally)

    def _describe(self) -> dict[str, Any]:
        # this machine hands out the work, and may have no GPU
        here = replace(self.model, device="cpu")
        calculator = build_calculator(here)
        for structure in self.structures:
            try:
                return describe(calculator, structure.atoms, here)
            except UnsupportedSystemError as error:
                refusal = error
        raise refusal

    def _identity(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all results depend on."""
        model = {
            # weights count with their content, wherever they are
            name: _each(value, _hash_of_file) if name in WEIGHTS else value
            for name, value in asdict(self.model).items()
            if name not in ("device", "offline")
        }
        if about["weights_sha256"] is not None:
            # the same weights may have several names
            model["model"] = about["weights_sha256"]
        settings = {
            key: value for one in self.settings for key, value in asdict(one).items()
        }
        found: dict[str, Any] = plain(
            {
                "verb": self.verb,
                "settings": settings,
                "model": model,
                "structures_per_task": self.options.per_task or self.per_task,
                "pictures": self.output.picture_format if self.output.plot else None,
            }
        )
        return found

    def _do(
        self,
        missing: Sequence[Part],
        ledger: Ledger,
        about: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Tally:
        if not missing:
            return Tally()
        # workers have other working folders
        absolute: dict[str, Any] = {
            name: _each(value, _absolute)
            for name, value in asdict(self.model).items()
            if name in WEIGHTS
        }
        plan = WorkerPlan(
            model=replace(self.model, **absolute),
            weights_sha256=about["weights_sha256"],
            work=self.work,
            seen=ledger.identity,
            provenance=provenance,
        )
        total = len(self.structures)
        done = total - sum(len(part.structures) for part in missing)
        with (
            tqdm(
                total=total, initial=done, unit="structure", disable=None, leave=False
            ) as bar,
            ray_pool(plan, self.options, n_tasks=len(missing)) as pool,
        ):

            def show(part: Part, tally: Tally) -> None:
                notes = []
                if tally.failed:
                    notes.append(f"{len(tally.failed)} tasks failed")
                if tally.n_lost:
                    notes.append(f"{tally.n_lost} workers lost")
                bar.set_postfix_str(", ".join(notes), refresh=False)
                bar.update(len(part.structures))

            return work_off(missing, pool, ledger, progress=show)

    def _rows(
        self, parts: Sequence[Part], ledger: Ledger, tally: Tally
    ) -> list[dict[str, Any]]:
        """Return how each structure ended, in the order of the input."""
        rows = []
        for part in parts:
            account = ledger.account_of(part)
            ended = {one.name: one for one in ledger.ended(part)}
            failed = tally.failed.get(part.name)
            for structure in part.structures:
                one = ended.get(structure.name) or Ended(
                    name=structure.name,
                    status="not started" if failed is None else "failed",
                    exit_code=EXIT_INTERRUPTED if failed is None else failed.exit_code,
                    reason=None if failed is None else failed.reason,
                )
                rows.append(
                    {
                        "name": one.name,
                        "file": structure.path,
                        "frame": structure.frame,
                        "status": one.status,
                        "exit_code": one.exit_code,
                        "reason": one.reason,
                        "folder": None if account is None else f"parts/{part.name}",
                        "worker": None if account is None else account["worker"],
                        "attempts": None if account is None else account["attempts"],
                        "task_seconds": None if account is None else account["seconds"],
                    }
                )
        return rows

    def _save(
        self,
        parts: Sequence[Part],
        ledger: Ledger,
        tally: Tally,
        provenance: Mapping[str, Any],
    ) -> None:
        rows = self._rows(parts, ledger, tally)
        save_table({key: [row[key] for row in rows] for key in rows[0]}, self.table)
        joined: dict[str, list[Path]] = {}
        for part in parts:
            if ledger.account_of(part) is None:
                continue
            common = self.work.common(
                part.structures, ledger.parts / part.name, part.name
            )
            for name, paths in common.items():
                joined.setdefault(name, []).extend(filter(Path.exists, paths))
        for name, paths in joined.items():
            join = merge_tables if name.endswith(".csv") else join_texts
            join(paths, self.folder / name)
        save_summary(
            {
                "status": "completed" if tally.interruption is None else "interrupted",
                "reason": tally.interruption,
                **provenance,
                "settings": self._identity(provenance["model"])["settings"],
                "campaign": asdict(self.options),
                "versions": versions(),
                "results": {
                    "structures": dict(Counter(row["status"] for row in rows)),
                    "workers_lost": tally.n_lost,
                },
                "files": [self.table, *(self.folder / name for name in joined)],
            },
            self.summary,
        )

    def _shown(self, path: Path) -> Path:
        """Return a path as the user would write it."""
        assert self.output.out is not None
        return self.output.out / path.relative_to(self.folder)

    def _print_start(
        self, about: Mapping[str, Any], parts: Sequence[Part], missing: Sequence[Part]
    ) -> None:
        n_done = len(parts) - len(missing)
        print_facts(
            {
                "campaign": f"{self.verb}, {len(self.structures)} structures in "
                f"{len(parts)} tasks",
                "done before": f"{n_done} tasks" if n_done else None,
                "model": describe_model(about),
                "forces": describe_forces(about),
            }
        )
        for note in about["notes"]:
            print_facts({"note": note})

    def _print_end(self, parts: Sequence[Part], ledger: Ledger, tally: Tally) -> int:
        rows = self._rows(parts, ledger, tally)
        counts = Counter(row["status"] for row in rows)
        lost = f"{tally.n_lost} workers; what they had was given to others"
        print_facts(
            {
                "done": ", ".join(f"{n} {status}" for status, n in counts.items()),
                "lost": lost if tally.n_lost else None,
                "results": self._shown(ledger.parts),
                "table": self._shown(self.table),
                "summary": self._shown(self.summary),
            }
        )
        bad = [row for row in rows if row["exit_code"] and row["reason"]]
        for row in bad[:SHOWN]:
            print(
                f"jmp-md: {row['name']}: {row['status']}: {row['reason']}",
                file=sys.stderr,
            )
        if len(bad) > SHOWN:
            print(
                f"jmp-md: and {len(bad) - SHOWN} more, see the table", file=sys.stderr
            )
        if tally.interruption is not None:
            print(
                f"jmp-md: interrupted: {tally.interruption}; the same command goes on",
                file=sys.stderr,
            )
            return EXIT_INTERRUPTED
        codes = {row["exit_code"] for row in rows}
        # an input error tells more than an iteration without success
        return EXIT_USAGE if EXIT_USAGE in codes else max(codes)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Change a name, or each of several."""
    if isinstance(value, str):
        return change(value)
    return tuple(map(change, value))


def _hash_of_file(name: str) -> str:
    return file_hash(Path(name)) if Path(name).is_file() else name


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name
