"""D3 dispersion on top of a calculator whose level of theory has none."""

from __future__ import annotations

import importlib
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    CalculatorError,
    PropertyNotImplementedError,
    all_changes,
)
from ase.geometry import complete_cell

from jmp_calc.calculator.memory import Memory
from jmp_calc.errors import ArgumentError, UnsupportedSystemError

ALREADY = re.compile(
    r"MBD|D[234](?=BJ|zero|M|OP|CSO|\b)|-D\b|XDM|dDsC|VV10|[+-]TS\b|vdW|-V\b"
    r"|-3c\b|B97M|xTB|CCSD|MP2|RPA\b",
    re.IGNORECASE,
)
"""What names of levels of theory have that include dispersion."""

LAST_ELEMENT = 94
"""Plutonium; the published parameters of D3 end there."""


_MARGIN_A = 5.0


class Dispersed(Calculator):
    """A calculator plus D3 dispersion with Becke-Johnson damping.

    The three-body term is left out (s9 = 0), as in D3(BJ) of VASP and most other codes.
    Energies, forces and stress of the two are added; periodicity is that of the
    structure, in one or two directions, too.

    Args:
        calculator: Any ASE calculator, such as ``JMPCalculator``.
        functional: Functional that the parameters of the damping are for, such as
            ``pbe``; should be the one of the calculator's level of theory.

    Raises:
        ArgumentError: If the package ``dftd3`` is not installed, or has no parameters
            for the functional.

    Source:
        Grimme et al., J. Chem. Phys. 132, 154104 (2010), and Grimme, Ehrlich and
        Goerigk, J. Comput. Chem. 32, 1456 (2011); computed by simple-dftd3.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(self, calculator: Any, functional: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE
        self.base = calculator
        self.functional = functional
        self._d3 = _d3(functional)
        self._checked: Memory[bool] = Memory()
        self._heads: set[str | None] = set()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute the sum into ``results``; called by ASE.

        Args:
            atoms: The structure; None: the last one.
            properties: Names of ``implemented_properties``.
            system_changes: What has changed; not used.

        Raises:
            UnsupportedSystemError: If D3 has no parameters for an element, or the
                level of theory has dispersion already.
            PropertyNotImplementedError: If stress is asked for and the structure is not
                periodic in three directions.
        """
        super().calculate(  # type: ignore[no-untyped-call]  # ASE
            atoms, list(properties), list(system_changes)
        )
        # the object that moves, not a copy: the calculator keeps what it decided
        system = self.atoms if atoms is None else atoms
        assert system is not None
        if self._checked.find(system) is None:
            self._check_level(system)
            self._checked.keep(system, True)
        names = _ordered(properties)
        found = {name: self.base.get_property(name, system) for name in names}
        self.results = self._added(system, found, names)

    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[dict[str, Any]]:
        """Compute many structures, the calculator's part a batch at a time.

        Args:
            list_of_atoms: Structures, of any kinds.
            properties: Names of ``implemented_properties``.

        Returns:
            One dictionary per structure, with what the calculator tells besides.

        Raises:
            UnsupportedSystemError: As for :meth:`calculate`.
        """
        frames, names = list(list_of_atoms), _ordered(properties)
        if hasattr(self.base, "evaluate"):
            found = self.base.evaluate(frames, names)
        else:
            found = [
                {name: self.base.get_property(name, atoms) for name in names}
                for atoms in frames
            ]
        for atoms, one in zip(frames, found, strict=True):
            if one.get("head") not in self._heads:
                self._check_level(atoms)
                self._heads.add(one.get("head"))
        return [
            {**one, **self._added(atoms, one, names)}
            for atoms, one in zip(frames, found, strict=True)
        ]

    def meet(self, list_of_atoms: Iterable[Atoms]) -> list[Any]:
        """Let the model decide about structures; see ``JMPCalculator.meet``.

        Args:
            list_of_atoms: Structures.
        """
        frames = list(list_of_atoms)
        if not hasattr(self.base, "meet"):
            return [None] * len(frames)
        decided: list[Any] = self.base.meet(frames)
        return decided

    def describe(self, atoms: Atoms) -> dict[str, Any]:
        """Return what a structure is computed with, as ``JMPCalculator.describe``.

        Args:
            atoms: The structure.

        Raises:
            UnsupportedSystemError: If the level of theory has dispersion already.
        """
        about = self._check_level(atoms)
        level, name = about["level_of_theory"], self.functional
        is_same = _plain(re.split(r"[\s/,(+]", level, maxsplit=1)[0]) == _plain(name)
        notes = [
            f"D3(BJ) dispersion with the parameters of {name} "
            f"({_parameters_text(name)}) is added to {level}, without the three-body "
            "term"
        ]
        if not is_same:
            notes.append(
                f"the parameters of {name} fit {name} only: make sure that {level} is "
                "this functional, without dispersion, or choose another --d3"
            )
        return {
            **about,
            "level_of_theory": f"{level} + D3(BJ, {name})",
            "notes": [*notes, *about["notes"]],
        }

    def set_atoms(self, atoms: Atoms) -> None:
        """Let the calculator forget earlier structures; called by ``atoms.calc =``.

        Args:
            atoms: The structure that the calculator is attached to.
        """
        if hasattr(self.base, "set_atoms"):
            self.base.set_atoms(atoms)

    def __getstate__(self) -> dict[str, Any]:
        # handles of the library cannot be copied to another process
        return {**self.__dict__, "_d3": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._d3 = _d3(self.functional)

    def _check_level(self, atoms: Atoms) -> dict[str, Any]:
        """Return what the calculator tells, or refuse what has dispersion already."""
        if not hasattr(self.base, "describe"):
            return {}
        about: dict[str, Any] = self.base.describe(atoms)
        level = str(about["level_of_theory"])
        if ALREADY.search(level):
            raise UnsupportedSystemError(
                f"head {about.get('head')!r} was trained on {level}, which has "
                "dispersion already; leave --d3 out, or choose another head"
            )
        return about

    def _added(
        self, atoms: Atoms, found: dict[str, Any], names: Sequence[str]
    ) -> dict[str, Any]:
        if "stress" in names and not atoms.pbc.all():
            raise PropertyNotImplementedError(
                "stress needs a structure that is periodic in three directions; pbc is "
                f"{atoms.pbc.tolist()}"
            )
        # simple-dftd3 1.7 takes the process down with it where it finds an error
        if atoms.numbers.max(initial=0) > LAST_ELEMENT or atoms.numbers.min() < 1:
            raise UnsupportedSystemError(
                f"D3 cannot compute {atoms.get_chemical_formula()}: it has parameters "
                f"for the elements 1 to {LAST_ELEMENT}; leave --d3 out"
            )
        system = _boxed(atoms)
        try:
            parts = {name: self._d3.get_property(name, system) for name in names}
        except CalculatorError as error:
            self._d3.reset()
            raise UnsupportedSystemError(
                f"D3 cannot compute {atoms.get_chemical_formula()}: {error}"
            ) from error
        results = {name: found[name] + parts[name] for name in names}
        return {**results, "free_energy": results["energy"]}


def _ordered(properties: Sequence[str]) -> list[str]:
    """Return what to ask for, with what gives the others as well first."""
    names = ["stress"] if "stress" in properties else []
    return [*names, "forces", "energy"]


def _boxed(atoms: Atoms) -> Atoms:
    """Return a structure in a cell that holds it along what is not periodic.

    simple-dftd3 1.7 folds atoms into the cell along all three vectors, periodic or not.
    A slab that crosses the end of its cell would be torn apart, and lose half of its
    dispersion; without a third vector the energy is not a number.
    """
    if atoms.pbc.all() or not atoms.pbc.any():
        return atoms
    boxed = Atoms(atoms.numbers, positions=atoms.positions, pbc=atoms.pbc)
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    for axis in np.flatnonzero(~atoms.pbc):
        # a unit vector, at right angles to the periodic ones
        along = atoms.positions @ cell[axis]
        boxed.positions += (_MARGIN_A - along.min()) * cell[axis]
        cell[axis] *= np.ptp(along) + 2 * _MARGIN_A
    boxed.cell = cell
    return boxed


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("ω", "w")


def _parameters_text(functional: str) -> str:
    """Return the parameters of the damping, as simple-dftd3 tabulates them."""
    table = importlib.resources.files("dftd3") / "parameters.toml"
    found = tomllib.loads(table.read_text(encoding="utf-8"))
    bj = found["parameter"].get(_plain(functional), {}).get("d3", {}).get("bj")
    if bj is None:
        return "its table has them under another name"
    values = {"s6": 1.0, **bj}
    names = " ".join(f"{name} {values[name]:g}," for name in ("s6", "s8", "a1"))
    return f"{names} a2 {values['a2']:g} bohr"


def _d3(functional: str) -> Any:
    try:
        interface = importlib.import_module("dftd3.interface")
        ase_route = importlib.import_module("dftd3.ase")
    except ImportError as error:
        raise ArgumentError(
            "D3 dispersion needs the package dftd3; install it with "
            "pip install 'jmp-calc[d3]'"
        ) from error
    try:
        interface.RationalDampingParam(method=functional, atm=False)
    except RuntimeError as error:
        raise ArgumentError(
            f"D3 has no parameters for the functional {functional!r}; name the one of "
            "the model's level of theory, such as pbe, rpbe, pbe0 or b3lyp"
        ) from error
    return ase_route.DFTD3(
        damping="d3bj", params_tweaks={"method": functional, "atm": False}
    )
