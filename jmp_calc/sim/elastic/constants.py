"""Strains a crystal in six ways, computes the stresses, and fits their slopes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_strain
from jaxtyping import Float

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.elastic.moduli import VOIGT_AXES, Moduli, moduli_of
from jmp_calc.sim.elastic.settings import ElasticSettings, elastic_files
from jmp_calc.sim.elastic.symmetry import find_point_group, symmetric_constants
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.requirements import require_crystal
from jmp_calc.sim.side_by_side import compute_together, relax_together
from jmp_calc.units import GPA

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How the work can end."""

_CELL_STRESS_GPA = 0.01
"""Stress left in a cell that is relaxed first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElasticResult:
    """Outcome of :func:`run_elastic`; matrices in Voigt order, engineering strains."""

    status: str
    """``completed`` or ``not converged``."""
    reason: str | None
    """Why it is not converged."""
    constants_GPa: Float[np.ndarray, "6 6"]
    """Elastic constants, GPa; symmetric, and as symmetric as the crystal."""
    raw_constants_GPa: Float[np.ndarray, "6 6"]
    """Slopes of the stresses as fitted: row is the strain, column the stress."""
    asymmetry_GPa: float
    """Largest change of a fitted slope to make the matrix symmetric, GPa."""
    moduli: Moduli
    """Averages and stability."""
    stress_GPa: Float[np.ndarray, "6"]
    """Stress of the unstrained crystal, GPa; tension is positive."""
    space_group: str | None
    """Symmetry that the constants were averaged over; None: not averaged."""
    strains: Float[np.ndarray, "points"]
    """Strains of each kind."""
    stresses_GPa: Float[np.ndarray, "6 points 6"]
    """Stress for kind and size of the strain, GPa."""
    notes: tuple[str, ...]
    """What a user has to know before using the numbers."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether all relaxations reached their goal."""
        return self.status == COMPLETED


def run_elastic(
    atoms: Atoms,
    settings: ElasticSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "crystal",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ElasticResult:
    """Compute the elastic constants of a crystal at its present volume.

    All strained crystals are relaxed side by side, and their stresses computed
    together. The forces must be the gradient of the energy.

    Args:
        atoms: A crystal at rest; not changed. Constraints on atoms are kept.
        settings: What to do.
        calculator: An ASE calculator with stress, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of their names.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called with the strained crystals done and the rounds of relaxation.

    Raises:
        ArgumentError: If a file would be replaced.
        UnsupportedSystemError: If the structure is no crystal, or cannot be computed.
        DataError: If a file cannot be written.

    Source:
        Stress-strain method, as in Nielsen and Martin, Phys. Rev. B 32, 3780 (1985);
        slopes of the Cauchy stress, which are the elastic constants of a crystal
        without stress (Wallace, Thermodynamics of Crystals, 1972).
    """
    files = elastic_files(Path(out), stem)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    require_crystal(atoms, "a matrix of elastic constants")
    work = _Work(settings, calculator, progress)
    start = work.relaxed_start(atoms)
    strains = _strains(settings)
    stresses = work.stresses(start, strains)
    stress = work.stress_of([start])[0]
    raw = _slopes(strains, stresses)
    constants = (raw + raw.T) / 2
    notes = _stress_notes(stress, settings)
    space_group = None
    if not settings.skip_symmetry:
        group = find_point_group(start, settings.symmetry_tolerance_A)
        if group is None:
            notes.append(
                "the constants are not averaged over the symmetry of the crystal: "
                "spglib is not installed (pip install spglib)"
            )
        else:
            space_group = group.space_group
            constants = symmetric_constants(constants, group.rotations)
    moduli = moduli_of(constants)
    if not moduli.is_stable:
        notes.append(
            "the crystal is not stable: a strain lowers its energy (smallest "
            f"eigenvalue {moduli.eigenvalues_GPa[0]:.3g} GPa)"
        )
    result = ElasticResult(
        status=NOT_CONVERGED if work.n_open else COMPLETED,
        reason=work.reason,
        constants_GPa=constants,
        raw_constants_GPa=raw,
        asymmetry_GPa=float(np.abs(raw - constants).max()),
        moduli=moduli,
        stress_GPa=stress,
        space_group=space_group,
        strains=strains,
        stresses_GPa=stresses,
        notes=tuple(notes),
        files=files,
    )
    record.make_folder()
    _save(result)
    record.save(
        status=result.status,
        reason=result.reason,
        settings=settings,
        results=_results(result),
        files=result.files,
    )
    return result


class _Work:
    """Relaxations and stresses, and which of them did not converge."""

    def __init__(
        self,
        settings: ElasticSettings,
        calculator: Any,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.n_open = 0
        self._settings = settings
        self._calculator = calculator
        self._progress = progress

    @property
    def reason(self) -> str | None:
        """Why the work is not converged, if it is not."""
        if self.n_open == 0:
            return None
        return (
            f"{self.n_open} relaxations did not converge; allow more --steps or a "
            "larger --fmax-eV-per-A"
        )

    def relaxed_start(self, atoms: Atoms) -> Atoms:
        """Return the crystal that is to be strained, at rest if asked for."""
        settings = self._settings
        if settings.relax == "none":
            return atoms
        relaxation = RelaxSettings(
            move="both" if settings.relax == "cell" else "positions",
            fmax_eV_per_A=settings.fmax_eV_per_A,
            stress_tolerance_GPa=_CELL_STRESS_GPA,
            steps=settings.steps,
        )
        return self._relax([atoms], relaxation, ["the unstrained crystal"], None)[0]

    def stresses(
        self, start: Atoms, strains: Float[np.ndarray, "points"]
    ) -> Float[np.ndarray, "6 points 6"]:
        """Return the stress under each strain, GPa."""
        settings = self._settings
        systems, names = [], []
        for kind, axes in enumerate(VOIGT_AXES):
            for strain in strains:
                systems.append(_strained(start, kind, strain))
                names.append(f"strain {axes} {strain:+.3%}")
        if settings.relax != "none":
            relaxation = RelaxSettings(
                fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
            )
            systems = self._relax(systems, relaxation, names, self._progress)
        return self.stress_of(systems).reshape(6, len(strains), 6)

    def stress_of(self, systems: list[Atoms]) -> Float[np.ndarray, "systems 6"]:
        """Return stresses, GPa."""
        try:
            found = compute_together(systems, ("stress",), self._calculator)
        except UnsupportedSystemError as error:
            if isinstance(error.__cause__, PropertyNotImplementedError):
                raise UnsupportedSystemError(
                    "elastic constants need stresses, which the calculator does not "
                    f"give ({error}); use another model, head or --calculator"
                ) from error
            raise
        return np.array([results["stress"] for results in found]) / GPA

    def _relax(
        self,
        systems: list[Atoms],
        relaxation: RelaxSettings,
        names: list[str],
        progress: Callable[[int, int], None] | None,
    ) -> list[Atoms]:
        found = relax_together(
            systems, relaxation, self._calculator, names=names, progress=progress
        )
        self.n_open += sum(not one.is_converged for one in found)
        return [one.atoms for one in found]


def _strains(settings: ElasticSettings) -> Float[np.ndarray, "points"]:
    half = settings.points // 2
    up = np.arange(1, half + 1) / half * settings.strain_percent / 100
    return np.concatenate([-up[::-1], up])


def _strained(atoms: Atoms, kind: int, strain: float) -> Atoms:
    """Return a crystal under one engineering strain."""
    vector = np.zeros(6)
    vector[kind] = strain
    system: Atoms = atoms.copy()
    system.set_cell(atoms.cell @ voigt_6_to_full_3x3_strain(vector), scale_atoms=True)
    return system


def _slopes(
    strains: Float[np.ndarray, "points"], stresses: Float[np.ndarray, "6 points 6"]
) -> Float[np.ndarray, "6 6"]:
    """Return the slope of each stress at no strain.

    Fits a line, and with four points or more a cubic, so that what is left is of the
    fourth order in the strain.
    """
    powers = [1] if len(strains) == 2 else [1, 3]
    size = np.abs(strains).max()
    x = strains / size
    basis = np.stack([x**power for power in powers], axis=1)
    # points lie evenly about zero, where even powers are orthogonal to these
    found = np.linalg.lstsq(
        basis, stresses.transpose(1, 0, 2).reshape(len(x), -1), rcond=None
    )
    slopes: Float[np.ndarray, "6 6"] = found[0][0].reshape(6, 6) / size
    return slopes


def _stress_notes(
    stress: Float[np.ndarray, "6"], settings: ElasticSettings
) -> list[str]:
    largest = float(np.abs(stress).max())
    if largest <= settings.residual_stress_GPa:
        return []
    return [
        f"the unstrained crystal has a stress of up to {largest:.3g} GPa, and these "
        "are not the constants of the crystal at rest; relax it first (--relax cell)"
    ]


def _save(result: ElasticResult) -> None:
    rows = [f"C_{axes}" for axes in VOIGT_AXES]
    columns: dict[str, list[object]] = {"GPa": list(rows)}
    for axes, values in zip(VOIGT_AXES, result.constants_GPa.T, strict=True):
        columns[axes] = values.tolist()
    save_table(columns, result.files["constants"])
    n_points = len(result.strains)
    table: dict[str, list[object]] = {
        "strained": [axes for axes in VOIGT_AXES for _ in range(n_points)],
        "strain": result.strains.tolist() * 6,
    }
    flat = result.stresses_GPa.reshape(-1, 6)
    for axes, values in zip(VOIGT_AXES, flat.T, strict=True):
        table[f"stress_{axes}_GPa"] = values.tolist()
    save_table(table, result.files["stresses"])


def _results(result: ElasticResult) -> dict[str, Any]:
    return {
        "voigt_order": VOIGT_AXES,
        "elastic_constants_GPa": result.constants_GPa,
        "fitted_slopes_GPa": result.raw_constants_GPa,
        "asymmetry_GPa": result.asymmetry_GPa,
        "space_group": result.space_group,
        "stress_GPa": result.stress_GPa,
        "is_stable": result.moduli.is_stable,
        **asdict(result.moduli),
        "notes": result.notes,
    }
