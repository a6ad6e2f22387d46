"""What tests of ``jmp-md run`` share: a cheap calculator, and shorthands."""

from __future__ import annotations

from pathlib import Path

from ase.calculators.emt import EMT

from jmp_calc.cli import main
from jmp_calc.cli.options import ModelOptions

EXAMPLES = Path(__file__).parents[2] / "examples"


class DescribedEMT(EMT):
    """EMT that describes itself as JMPCalculator does."""

    def __init__(self, options: ModelOptions, is_conservative: bool = True) -> None:
        super().__init__()
        self.options = options
        self.is_conservative = is_conservative

    def describe(self, atoms):
        return {
            "model": self.options.model,
            "head": self.options.head or "toy",
            "level_of_theory": "effective medium theory",
            "forces": "gradient" if self.is_conservative else "direct",
            "is_conservative": self.is_conservative,
            "weights_sha256": "0" * 64,
            "notes": ["a toy for metals"],
        }


class DirectForAluminium(DescribedEMT):
    """EMT whose forces are said to be direct for one element."""

    def describe(self, atoms):
        self.is_conservative = "Al" not in atoms.symbols
        return super().describe(atoms)


def run(*words) -> int:
    return main(["run", *map(str, words)])


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]
