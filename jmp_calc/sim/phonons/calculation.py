"""A whole phonon calculation: from a crystal and a calculator to files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Int
from phonopy import Phonopy

from jmp_calc.files import file_hash
from jmp_calc.sim.output import (
    check_new,
    save_structure,
    save_summary,
    without_results,
)
from jmp_calc.sim.phonons.analysis import Analysis, analyze
from jmp_calc.sim.phonons.band_path import standard_path
from jmp_calc.sim.phonons.convergence import (
    ConvergenceRow,
    grow_mesh,
    grow_supercell,
)
from jmp_calc.sim.phonons.crystal import (
    build_phonopy,
    check_crystal,
    check_size,
    choose_mesh,
    choose_supercell,
    space_group,
    symmetry_notes,
)
from jmp_calc.sim.phonons.files import (
    PhononFiles,
    save_bands,
    save_convergence,
    save_phonopy,
    save_states,
    save_thermal,
)
from jmp_calc.sim.phonons.force_constants import (
    Progress,
    Residual,
    add_born_charges,
    compute_forces,
    force_scale,
    make_force_constants,
    residual_of,
)
from jmp_calc.sim.phonons.relaxation import relax_crystal
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings
from jmp_calc.units import GAS_CONSTANT, KJ_PER_MOL
from jmp_calc.versions import installed_versions

LARGE_DRIFT = 0.02
"""Force constants whose sums differ by a larger part from zero are told."""
PACKAGES = ("jmp-calc", "phonopy", "spglib", "seekpath", "ase", "numpy", "torch")
"""Packages whose versions the summary states."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhononResult:
    """What came out, and where it is."""

    atoms: Atoms
    """The crystal, relaxed if that was asked for."""
    phonon: Phonopy
    """phonopy's object with everything in it, for further work."""
    analysis: Analysis
    """Bands, densities of states, thermal properties."""
    residual: Residual
    """Forces and stress of the undisplaced crystal."""
    supercell: Int[np.ndarray, "3 3"]
    """Supercell vectors in vectors of the crystal, rows."""
    n_displacements: int
    """Displaced supercells of the last supercell."""
    convergence: tuple[ConvergenceRow, ...]
    """Meshes and supercells that were compared; empty if none were."""
    notes: tuple[str, ...]
    """What to be aware of."""
    files: PhononFiles
    """Where everything is written."""
    wall_seconds: float
    """Time that it took, s."""

    @property
    def is_converged(self) -> bool:
        """Whether each kind of row in ``convergence`` ends within its tolerances."""
        last = {row.kind: row.is_converged for row in self.convergence}
        return all(last.values())

    @property
    def status(self) -> str:
        """``completed`` or ``not converged``."""
        return "completed" if self.is_converged else "not converged"

    @property
    def reason(self) -> str | None:
        """Why it is not converged."""
        if self.is_converged:
            return None
        return (
            "the largest mesh or supercell that is allowed still changes the result; "
            "see --max-supercell-atoms and --max-mesh-points"
        )


def run_phonons(
    atoms: Atoms,
    settings: PhononSettings,
    *,
    calculator: Any,
    out: Path,
    stem: str,
    limits: ConvergenceSettings | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PhononResult:
    """Compute phonons of a crystal by finite displacements, and write them.

    Args:
        atoms: The crystal; not changed, its constraints do not matter.
        settings: What to compute.
        calculator: What computes forces; any ASE calculator.
        out: Folder of the results; exists.
        stem: First part of their names.
        limits: Whether to enlarge mesh and supercell; None: they stay.
        overwrite: Whether existing files may be replaced.
        provenance: Goes into the summary as it is.
        progress: Told what is being done.

    Raises:
        ArgumentError: If a file exists, or the supercell is huge.
        DataError: If Born charges cannot be read, or a file cannot be written.
        UnsupportedSystemError: If the structure is not a crystal that can be computed.

    Source:
        Togo et al., J. Phys.: Condens. Matter 35, 353001 (2023) (phonopy).
    """
    started = time.monotonic()
    files = PhononFiles.under(out, stem)
    check_new(files.all(), overwrite=overwrite)
    check_crystal(atoms)
    work = _Work(atoms, settings, limits or ConvergenceSettings(), calculator, progress)
    result = work.run(files, started)
    files.remove_stale()
    _save(result, settings, work.limits, provenance or {}, relaxed=work.relaxed)
    return result


class _Work:
    """One calculation on its way."""

    def __init__(
        self,
        atoms: Atoms,
        settings: PhononSettings,
        limits: ConvergenceSettings,
        calculator: Any,
        progress: Progress | None,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.relaxed: Atoms | None = None
        self._calculator = calculator
        self._progress = progress
        self._drift = 0.0
        self._atoms = without_results(atoms)
        self._atoms.set_constraint()
        self._supercell = settings.supercell_matrix
        # whatever can be wrong is found before forces are computed
        self._first: Phonopy = self._build(self._first_supercell())
        self._notes: list[str] = []

    def run(self, files: PhononFiles, started: float) -> PhononResult:
        """Do everything up to the files."""
        settings, limits = self.settings, self.limits
        residual = residual_of(self._atoms, self._calculator)
        if settings.relax != "none":
            self._atoms = relax_crystal(
                self._atoms, self._calculator, settings.relax, self._progress
            )
            self.relaxed = self._atoms
            self._first = self._build(self._first_supercell())
            residual = residual_of(self._atoms, self._calculator)
        self._notes += symmetry_notes(self._atoms, self._first)
        if residual.note is not None:
            self._notes.append(residual.note)
        supercell = self._first_supercell()
        phonon = self._solve(self._first)
        path = standard_path(
            phonon.primitive, settings.band_points, settings.symmetry_tolerance_A
        )
        rows: list[ConvergenceRow] = []
        if limits.has_supercell:
            phonon, supercell, rows = grow_supercell(
                phonon,
                supercell,
                lambda matrix: self._solve(self._build(matrix)),
                path,
                settings,
                limits,
            )
        mesh = choose_mesh(phonon, settings)
        if limits.has_mesh:
            mesh, compared = grow_mesh(phonon, mesh, limits)
            rows += compared
        if self._drift > LARGE_DRIFT:
            self._notes.append(
                f"force constants break the sum rule by {100 * self._drift:.2g} % of "
                "the largest one before it is imposed: forces are too noisy for "
                f"displacements of {settings.displacement_A:g} angstrom (float32?) or "
                "depend on more than positions"
            )
        self._tell(0)
        analysis = analyze(phonon, settings, path, mesh)
        self._tell(1)
        displaced = phonon.supercells_with_displacements
        return PhononResult(
            atoms=self._atoms,
            phonon=phonon,
            analysis=analysis,
            residual=residual,
            supercell=supercell,
            n_displacements=0 if displaced is None else len(displaced),
            convergence=tuple(rows),
            notes=tuple(self._notes),
            files=files,
            wall_seconds=time.monotonic() - started,
        )

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress("bands and densities of states", done, 1)

    def _first_supercell(self) -> Int[np.ndarray, "3 3"]:
        if self._supercell is not None:
            return self._supercell
        return choose_supercell(self._atoms.cell.array, self.settings.supercell_width_A)

    def _build(self, supercell: Int[np.ndarray, "3 3"]) -> Phonopy:
        check_size(len(self._atoms), supercell)
        phonon = build_phonopy(self._atoms, supercell, self.settings)
        if self.settings.born is not None:
            add_born_charges(phonon, self.settings.born)
        return phonon

    def _solve(self, phonon: Phonopy) -> Phonopy:
        compute_forces(
            phonon, self._atoms, self._calculator, self.settings, self._progress
        )
        drift = make_force_constants(phonon)
        self._drift = drift / force_scale(phonon)
        return phonon


def _save(
    result: PhononResult,
    settings: PhononSettings,
    limits: ConvergenceSettings,
    provenance: Mapping[str, Any],
    *,
    relaxed: Atoms | None,
) -> None:
    files, analysis = result.files, result.analysis
    save_phonopy(result.phonon, analysis, files.phonopy, settings.born)
    save_bands(analysis.bands, files.bands)
    save_states(analysis.states, files.dos)
    if analysis.thermal is not None:
        save_thermal(analysis.thermal, files.thermal)
    if result.convergence:
        save_convergence(result.convergence, files.convergence)
    if relaxed is not None:
        save_structure(relaxed, files.relaxed)
    # the summary comes last: where it is, all else is
    save_summary(
        {
            "status": result.status,
            "reason": result.reason,
            **provenance,
            "settings": {**asdict(settings), **asdict(limits)},
            "born_sha256": None if settings.born is None else file_hash(settings.born),
            "versions": installed_versions(PACKAGES),
            "results": summary_of(result),
        },
        files.summary,
    )


def summary_of(result: PhononResult) -> dict[str, Any]:
    """Return the results in numbers, as plain data with units in the names.

    Args:
        result: What came out.
    """
    analysis, phonon = result.analysis, result.phonon
    imaginary = analysis.imaginary
    return {
        "space_group": space_group(phonon),
        "atoms_in_primitive_cell": len(phonon.primitive),
        "primitive_cell_A": phonon.primitive.cell,
        "supercell": result.supercell,
        "atoms_in_supercell": len(phonon.supercell),
        "displaced_supercells": result.n_displacements,
        "residual": asdict(result.residual),
        "has_nonanalytic_correction": phonon.nac_params is not None,
        "band_path": analysis.bands.path.source,
        "mesh": list(analysis.mesh),
        "frequencies_at_gamma_THz": analysis.gamma_THz,
        "highest_frequency_THz": float(analysis.bands.stacked.max()),
        "imaginary_modes": None if imaginary is None else asdict(imaginary),
        "thermal": thermal_summary(result),
        "is_converged": result.is_converged if result.convergence else None,
        "notes": list(result.notes),
        "wall_seconds": result.wall_seconds,
    }


def thermal_summary(
    result: PhononResult, temperature_K: float = 300.0
) -> dict[str, float] | None:
    """Return thermal properties at the temperature of the table that is closest.

    Args:
        result: What came out.
        temperature_K: Temperature that is asked for, K.

    Returns:
        Values per atom, or None if there are imaginary modes.
    """
    thermal = result.analysis.thermal
    if thermal is None:
        return None
    n_atoms = len(result.phonon.primitive)
    place = int(np.abs(thermal.temperature_K - temperature_K).argmin())
    free_energy = thermal.free_energy_kJ_per_mol[place] * KJ_PER_MOL / n_atoms
    entropy = thermal.entropy_J_per_K_per_mol[place]
    capacity = thermal.heat_capacity_J_per_K_per_mol[place]
    return {
        "temperature_K": float(thermal.temperature_K[place]),
        "zero_point_energy_meV_per_atom": 1000 * thermal.zero_point_energy / n_atoms,
        "free_energy_meV_per_atom": float(1000 * free_energy),
        "entropy_kB_per_atom": float(entropy / GAS_CONSTANT / n_atoms),
        "heat_capacity_kB_per_atom": float(capacity / GAS_CONSTANT / n_atoms),
    }
