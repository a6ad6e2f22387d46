"""DataRecipe: from a list of molecules to labelled structures, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jmp_calc.calculator.named import CalculatorChoice
from jmp_train.data.sampling_settings import SamplingSettings

START = "conformers"
"""Name of the first step, which makes the conformers of the molecules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which structures of an earlier step another one starts from."""

    step: str = START
    """Name of the earlier step."""
    most_atoms: int = 1000
    """Larger ones are left out."""
    least_atoms: int = 1
    """Smaller ones are left out."""
    groups: tuple[str, ...] = ()
    """Only these molecules (canonical SMILES); empty: all."""
    share: float = 1.0
    """Fraction of them, by a hash."""
    key: str = ""
    """Only those with this entry in their ``info``; empty: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One kind of geometry."""

    name: str
    """Name of its files, and first word of the names of its structures."""
    origin: str
    """What its structures are, such as ``near equilibrium``; errors can be told apart
    by it."""
    choice: Choice
    """What it starts from."""
    settings: SamplingSettings
    """Kind and number of geometries."""
    calculator: CalculatorChoice | None = None
    """Forces, for kinds that need them."""
    task: str = ""
    """Task that its structures are labelled for; empty: others start from them."""
    by_part: bool = False
    """Whether each complex has molecules of one part only (training, validation or
    test), and of those that are always trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRecipe:
    """All steps of one set of made data."""

    name: str
    """Key in ``DATA_RECIPES``."""
    smiles: Path
    """List of molecules."""
    n_conformers: int
    """Conformers of each molecule that are tried."""
    steps: tuple[Step, ...]
    """In order; each starts from one before it."""
    labels: CalculatorChoice
    """What labels the structures."""
