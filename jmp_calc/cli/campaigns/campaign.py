"""A campaign from its options to its exit code."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jmp_calc.cli import (
    EXIT_BUG,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    EXIT_UNSTABLE,
    EXIT_USAGE,
)
from jmp_calc.cli.campaigns.ledger import Ledger, join_texts, merge_tables
from jmp_calc.cli.campaigns.loop import Tally, work_off
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.campaigns.parts import Part, fingerprints_of, plain
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
from jmp_calc.cli.options import ModelOptions, OutputOptions, ResumableOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.files import file_hash
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.output import save_summary, versions
from jmp_calc.sim.record import save_table

SHOWN = 20
"""Structures with problems that are listed on the screen; the table has all."""

TABLE_EVERY_S = 30.0
"""How often the table is written while the work goes on, s."""

WORST_FIRST = (
    EXIT_USAGE,
    EXIT_BUG,
    EXIT_UNSTABLE,
    EXIT_NOT_CONVERGED,
    EXIT_INTERRUPTED,
    EXIT_DONE,
)
"""Of several exit codes the first in this order counts: structures without results tell
more than an iteration without success."""

FREE_OPTIONS = ("device", "offline", "recompute", "compile")
"""Options of models that a campaign may change on the way: numbers stay the same."""
LATER_OPTIONS = ("approximate",)
"""Options that earlier versions did not have; they count where they are used."""
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
        if isinstance(self.output, ResumableOptions):
            self.options.refuse_resume(self.output.resume)
        if ":" in self.model.device:
            raise ArgumentError(
                f"--device {self.model.device} is for one process; in a campaign Ray "
                "gives each worker a GPU of its own: use --device cuda"
            )
        folder = self.folder
        import_ray()
        with one_line_warnings() as told, terminated_like_ctrl_c():
            about = self._describe()
            told.extend(about["notes"])
            identity = self._identity(about)
            overwrite = self.output.overwrite
            ledger = Ledger(folder, keeps_attempts=self.work.can_go_on)
            with ledger.opened(
                identity, files=self.common_files(), overwrite=overwrite
            ):
                missing = ledger.missing(
                    self.structures,
                    fingerprints_of(self.structures, identity),
                    per_task=self.options.per_task or self.per_task,
                    overwrite=overwrite,
                )
                self._print_start(about, missing)
                provenance = {
                    "inputs": describe_inputs(self.structures),
                    "model": {
                        **about,
                        "device": self.model.device,
                        "dtype": self.model.dtype,
                    },
                }
                tally = Tally()
                self._do(missing, ledger, about, provenance, tally)
                self._save(ledger, tally, provenance)
            return self._print_end(ledger, tally)

    def _describe(self) -> dict[str, Any]:
        # this machine hands out the work, and may have no GPU
        here, notes = replace(self.model, device="cpu"), []
        if self.model.approximate == "tf32" and self.model.device != "cpu":
            from jmp_calc.calculator.approximate import approximation_note

            here, notes = replace(here, approximate=None), [approximation_note("tf32")]
        calculator = build_calculator(here)
        for structure in self.structures:
            try:
                about = describe(calculator, structure.atoms, here)
                return {**about, "notes": [*about["notes"], *notes]}
            except UnsupportedSystemError as error:
                refusal = error
        raise refusal

    def _identity(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all results depend on."""
        usual = ModelOptions()
        model = {
            # weights count with their content, wherever they are
            name: _each(value, _hash_of_file) if name in WEIGHTS else value
            for name, value in asdict(self.model).items()
            if name not in FREE_OPTIONS
            # options that came later do not make earlier campaigns others
            and not (name in LATER_OPTIONS and value == getattr(usual, name))
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
        tally: Tally,
    ) -> None:
        if not missing:
            self._save_table(self._rows(ledger, tally))
            return
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
            saved = time.monotonic()

            def show(part: Part) -> None:
                nonlocal saved
                notes = []
                if tally.failed:
                    notes.append(f"{len(tally.failed)} failed")
                if tally.n_lost:
                    notes.append(f"{tally.n_lost} workers lost")
                bar.set_postfix_str(", ".join(notes), refresh=False)
                bar.update(len(part.structures))
                if time.monotonic() - saved > TABLE_EVERY_S:
                    self._save_table(self._rows(ledger, tally))
                    saved = time.monotonic()

            try:
                work_off(missing, pool, ledger, tally, progress=show)
            finally:
                self._save_table(self._rows(ledger, tally))

    def _rows(self, ledger: Ledger, tally: Tally) -> list[dict[str, Any]]:
        """Return how each structure ended, in the order of the input."""
        return [
            {
                "name": structure.name,
                "file": structure.path,
                "frame": structure.frame,
                **_end_of(structure.name, ledger, tally),
            }
            for structure in self.structures
        ]

    def _save_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        save_table({key: [row[key] for row in rows] for key in rows[0]}, self.table)

    def _save(
        self, ledger: Ledger, tally: Tally, provenance: Mapping[str, Any]
    ) -> None:
        joined: dict[str, list[Path]] = {}
        structures = {structure.name: structure for structure in self.structures}
        accounts = [ledger.account_of(name) for name in structures]
        for account in {a["part"]: a for a in accounts if a is not None}.values():
            part = account["part"]
            common = self.work.common(
                [structures[name] for name in account["structures"]],
                ledger.parts / part,
                part,
            )
            for name, paths in common.items():
                joined.setdefault(name, []).extend(filter(Path.exists, paths))
        for name, paths in joined.items():
            join = merge_tables if name.endswith(".csv") else join_texts
            join(paths, self.folder / name)
        counts = Counter(row["status"] for row in self._rows(ledger, tally))
        save_summary(
            {
                "status": "completed" if tally.interruption is None else "interrupted",
                "reason": tally.interruption,
                **provenance,
                "settings": self._identity(provenance["model"])["settings"],
                "campaign": asdict(self.options),
                "versions": versions(),
                "results": {
                    "structures": dict(counts),
                    "workers_lost": tally.n_lost,
                    "mixed_versions": ledger.mixed_versions() or None,
                },
                "files": [self.table, *(self.folder / name for name in joined)],
            },
            self.summary,
        )

    def _shown(self, path: Path) -> Path:
        """Return a path as the user would write it."""
        assert self.output.out is not None
        return self.output.out / path.relative_to(self.folder)

    def _print_start(self, about: Mapping[str, Any], missing: Sequence[Part]) -> None:
        n_done = len(self.structures) - sum(len(part.structures) for part in missing)
        print_facts(
            {
                "campaign": f"{self.verb}, {len(self.structures)} structures",
                "done before": n_done or None,
                "tasks": len(missing),
                "model": describe_model(about),
                "forces": describe_forces(about),
            }
        )
        for note in about["notes"]:
            print_facts({"note": note})

    def _print_end(self, ledger: Ledger, tally: Tally) -> int:
        rows = self._rows(ledger, tally)
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
        for package, found in ledger.mixed_versions().items():
            print(
                f"jmp-md: warning: results were computed with several versions of "
                f"{package}: {', '.join(found)}",
                file=sys.stderr,
            )
        bugs = [one.traceback for one in tally.failed.values() if one.traceback]
        if bugs:
            print(bugs[0], file=sys.stderr, end="")
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
        return next(code for code in WORST_FIRST if code in codes)


def _end_of(name: str, ledger: Ledger, tally: Tally) -> dict[str, Any]:
    """Return how a structure ended, as columns of the table."""
    columns = dict.fromkeys(("folder", "worker", "attempts", "task_seconds"))
    failed = tally.failed.get(name)
    if failed is not None:
        return {
            "status": "failed",
            "exit_code": failed.exit_code,
            "reason": failed.reason,
            **columns,
        }
    account = ledger.account_of(name)
    if account is None:
        return {
            "status": "not started",
            "exit_code": EXIT_INTERRUPTED,
            "reason": None,
            **columns,
        }
    ended = next(one for one in account["ended"] if one["name"] == name)
    return {
        "status": ended["status"],
        "exit_code": ended["exit_code"],
        "reason": ended["reason"],
        "folder": f"parts/{account['part']}",
        "worker": account["worker"],
        "attempts": account["attempts"],
        "task_seconds": account["seconds"],
    }


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Change a name, or each of several."""
    if isinstance(value, str):
        return change(value)
    return tuple(map(change, value))


def _hash_of_file(name: str) -> str:
    return file_hash(Path(name)) if Path(name).is_file() else name


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name
