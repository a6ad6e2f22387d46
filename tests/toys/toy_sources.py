"""Sets made of toy molecules, as sources that can be pickled."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ase.build import molecule

from jmp_calc.errors import DataError
from jmp_train.data.source import Record, SetFacts, Skipped
from jmp_train.data.splits import Split
from toys.training import labelled, toy_molecules

TOY_FACTS = SetFacts(
    name="toy",
    title="Toy molecules",
    domain="molecule",
    level_of_theory="Morse",
    licence="MIT",
    citation="",
    coverage="a few toys",
)
CYCLE: tuple[Split, ...] = ("train", "train", "val", "test")
PER_PART = 6


@dataclass(frozen=True, kw_only=True)
class ToySource:
    """Parts of six molecules; every part skips one, and can fail or kill."""

    facts: SetFacts = TOY_FACTS
    n_parts: int = 4
    splits: tuple[Split | None, ...] = CYCLE
    notes: tuple[str, ...] = ()
    has_benzene: bool = False
    damage: Path | None = field(default=None, repr=False)
    """While this file exists, the third part is damaged after two molecules."""
    kill: Path | None = field(default=None, repr=False)
    """While this file exists, the third part kills its process; it is removed first."""
    journal: Path | None = field(default=None, repr=False)
    """File that tells which parts were read."""
    folder: Path | None = field(default=None, repr=False)
    """Folder with a file of the name of each part, which nobody reads."""

    def parts(self) -> list[str]:
        return [f"p{number}" for number in range(self.n_parts)]

    def inputs(self, part: str) -> tuple[Path, ...]:
        return () if self.folder is None else (self.folder / part,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        number = int(part[1:])
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(f"{part}\n")
        if self.has_benzene:
            sample = replace(labelled(molecule("C6H6")), name=f"benzene{number}")
            yield Record(sample=sample, split="train")
        for index, sample in enumerate(toy_molecules(PER_PART, seed=number)):
            if number == 2 and index == 2:
                self._misbehave()
            place = (PER_PART * number + index) % len(self.splits)
            yield Record(sample=sample, split=self.splits[place])
        yield Skipped(where=f"{part}/{PER_PART}", reason="not converged")

    def _misbehave(self) -> None:
        if self.damage is not None and self.damage.exists():
            raise DataError("record 2 of toys.xyz is cut off")
        if self.kill is not None and self.kill.exists():
            self.kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def toy_records(source: ToySource) -> list[Record]:
    """All records of a source in order."""
    entries = [entry for part in source.parts() for entry in source.read(part)]
    return [entry for entry in entries if isinstance(entry, Record)]
