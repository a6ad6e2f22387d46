"""Finds the path between two structures, and the barrier on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.mep import NEBTools
from ase.utils.forcecurve import ForceFit, fit_images

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.neb.band import BandStep, BatchedBand, set_results
from jmp_calc.sim.neb.ends import check_path, exchanged, interpolated, joined
from jmp_calc.sim.neb.settings import NebSettings, neb_files
from jmp_calc.sim.output import extxyz_text, save_structure, save_text
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.optimizers import OPTIMIZER_CLASSES
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import compute_together, relax_together

CONVERGED, NOT_CONVERGED = "converged", "not converged"
INTERRUPTED, UNSTABLE = "interrupted", "unstable"
"""How the work can end."""

_FLAT_EV = 1e-3
"""Difference of energies below which a valley on the path is none, eV."""

_SAVE_EVERY = 10
"""Steps after which the path is written, so that a killed job leaves one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NebResult:
    """Outcome of :func:`run_neb`."""

    status: str
    """``converged``, ``not converged``, ``interrupted`` or ``unstable``."""
    reason: str | None
    """Why it is not converged."""
    path: tuple[Atoms, ...]
    """All images, both ends included, with energies and forces."""
    steps: tuple[BandStep, ...]
    """How the band came there."""
    saddle: int
    """Number of the highest image; 0 is the first end."""
    fitted_barrier_eV: float
    """Height of the curve through energies and slopes above the first end, eV."""
    notes: tuple[str, ...]
    """What a user has to know before using the numbers."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether the band, and the end points if they were relaxed, converged."""
        return self.status == CONVERGED

    @property
    def energies(self) -> np.ndarray:
        """Energies of the images above the first end, eV."""
        energies = np.array([image.get_potential_energy() for image in self.path])
        relative: np.ndarray = energies - energies[0]
        return relative

    @property
    def barrier(self) -> float:
        """Energy of the highest image above the first end, eV."""
        return float(self.energies[self.saddle])

    @property
    def back_barrier(self) -> float:
        """Energy of the highest image above the last end, eV."""
        return self.barrier - self.reaction_energy

    @property
    def reaction_energy(self) -> float:
        """Energy of the last end above the first, eV."""
        return float(self.energies[-1])

    @property
    def fit(self) -> ForceFit:
        """Curve through energies and slopes, by ASE; path length in angstrom."""
        curve: ForceFit = fit_images(list(self.path))
        return curve


def run_neb(
    systems: Sequence[Atoms],
    settings: NebSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "path",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[BandStep], None] | None = None,
) -> NebResult:
    """Relax a band of images between two structures, and find the barrier.

    All images are computed in one call. The band is relaxed as a whole first; then the
    highest image climbs. Ctrl-C, or an image that cannot be computed, ends the work
    early with valid files.

    Args:
        systems: Two end points, or a whole path that begins and ends with them; not
            changed. The constraints of the first hold.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of their names.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called after every evaluation of the band.

    Raises:
        ArgumentError: If a file would be replaced, or there is one structure only.
        UnsupportedSystemError: If the structures do not fit, or cannot be computed.
        DataError: If a file cannot be written.

    Source:
        Henkelman and Jonsson, J. Chem. Phys. 113, 9978 (2000) (tangents); Henkelman,
        Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (2000) (climbing image); as in
        ASE.
    """
    files = neb_files(Path(out), stem)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    check_path(systems)
    path, ends_converged = _first_path(systems, settings, calculator)
    band = BatchedBand(path, settings, calculator)
    record.make_folder()
    status, reason = _relax(band, settings, files["path"], progress)
    if not ends_converged and status == CONVERGED:
        status, reason = NOT_CONVERGED, "the end points did not converge"
    images = band.last
    energies = [image.get_potential_energy() for image in images]
    result = NebResult(
        status=status,
        reason=reason,
        path=tuple(images),
        steps=tuple(band.steps),
        saddle=int(np.argmax(energies)),
        fitted_barrier_eV=float(NEBTools(images).get_barrier(fit=True)[0]),
        notes=tuple(_notes(images, settings)),
        files=files,
    )
    _save(result)
    record.save(
        status=status,
        reason=reason,
        settings=settings,
        results=_results(result),
        files=files,
    )
    return result


def _first_path(
    systems: Sequence[Atoms], settings: NebSettings, calculator: Any
) -> tuple[list[Atoms], bool]:
    """Return images with results at both ends, and whether the ends are relaxed."""
    given = joined(systems)
    is_converged = True
    if settings.relax_ends:
        relaxation = RelaxSettings(
            fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
        )
        names = ["first end point", "last end point"]
        ends = relax_together(
            [given[0], given[-1]], relaxation, calculator, names=names
        )
        is_converged = all(end.is_converged for end in ends)
        for end in ends:
            # the step of that relaxation says nothing of the path
            end.atoms.info.pop("step", None)
        # a relaxed molecule may have turned
        given = joined([ends[0].atoms, *given[1:-1], ends[1].atoms])
    path = given
    if len(given) == 2:
        path = interpolated(given[0], given[1], settings)
    found = compute_together([path[0], path[-1]], ("energy", "forces"), calculator)
    set_results(path[0], found[0])
    set_results(path[-1], found[1])
    return path, is_converged


def _relax(
    band: BatchedBand,
    settings: NebSettings,
    path_file: Path,
    progress: Callable[[BandStep], None] | None,
) -> tuple[str, str | None]:
    """Relax the band in place, and return how that ended."""
    try:
        is_converged = _run_stages(band, settings, path_file, progress)
    except KeyboardInterrupt as error:
        if not band.last:
            raise
        return INTERRUPTED, f"{str(error) or 'Ctrl-C'} in step {band.steps[-1].step}"
    except UnsupportedSystemError as error:
        if not band.last:
            raise
        return UNSTABLE, f"after step {band.steps[-1].step}: {error}"
    if is_converged:
        return CONVERGED, None
    return NOT_CONVERGED, f"{settings.steps} steps were not enough"


def _run_stages(
    band: BatchedBand,
    settings: NebSettings,
    path_file: Path,
    progress: Callable[[BandStep], None] | None,
) -> bool:
    """Relax the band, then let it climb, and return whether it converged."""
    stages = [(False, settings.fmax_eV_per_A)]
    if not settings.skip_climb:
        start = max(settings.climb_from_eV_per_A, settings.fmax_eV_per_A)
        stages = [(False, start), (True, settings.fmax_eV_per_A)]
    left = settings.steps
    is_converged = False
    for climb, fmax in stages:
        # on a slope without a top the highest image would climb without end
        band.climb = climb and band.has_hill
        # a new one for each stage: what it learnt belongs to the other forces
        optimizer = OPTIMIZER_CLASSES[settings.optimizer](band, logfile=None)
        for is_done in optimizer.irun(fmax=fmax, steps=left):
            is_converged = bool(is_done)
            step = band.steps[-1]
            if progress is not None:
                progress(step)
            if step.step % _SAVE_EVERY == 0:
                _save_path(band.last, path_file)
        left -= optimizer.nsteps
        if not is_converged:
            break
    return is_converged


def _notes(images: Sequence[Atoms], settings: NebSettings) -> list[str]:
    notes = []
    for name, end in (("first", images[0]), ("last", images[-1])):
        force = float(np.linalg.norm(end.get_forces(), axis=1).max())
        if force > 1.01 * settings.fmax_eV_per_A:
            notes.append(
                f"the {name} end point is not at rest: the largest force is "
                f"{force:.3g} eV/Å; relax it (--relax-ends)"
            )
    swapped = exchanged(images[0], images[-1])
    if swapped:
        names = ", ".join(f"{images[0].symbols[atom]}{atom}" for atom in swapped[:6])
        notes.append(
            f"{names}{', ...' if len(swapped) > 6 else ''} go to each other's places: "
            "if that is not meant, put the atoms of both end points in the same order"
        )
    energies = np.array([image.get_potential_energy() for image in images])
    top = int(np.argmax(energies))
    if top in (0, len(images) - 1):
        notes.append(
            "the highest image is an end point: there is no barrier between the "
            "images, or too few of them (--images)"
        )
    # the climbing stops on one hill; a valley beside it hides another step
    valleys = [
        n
        for n in range(1, len(images) - 1)
        if energies[n] < min(energies[n - 1], energies[n + 1]) - _FLAT_EV
    ]
    if valleys:
        notes.append(
            f"there is a valley on the path at image {valleys[0]}; relax it and find "
            "the barriers on both sides one by one"
        )
    return notes


def _save_path(images: Sequence[Atoms], path: Path) -> None:
    save_text(path, "".join(extxyz_text(image) for image in images))


def _save(result: NebResult) -> None:
    files = result.files
    _save_path(result.path, files["path"])
    save_structure(result.path[result.saddle], files["saddle"])
    largest = [np.linalg.norm(i.get_forces(), axis=1).max() for i in result.path]
    save_table(
        {
            "image": list(range(len(result.path))),
            "path_A": [float(length) for length in result.fit.path],
            "energy_eV": [float(i.get_potential_energy()) for i in result.path],
            "relative_energy_eV": result.energies.tolist(),
            "max_force_eV_per_A": [float(force) for force in largest],
        },
        files["table"],
    )
    rows = [astuple(step) for step in result.steps]
    names = [field.name for field in fields(BandStep)]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    save_table(columns, files["steps"])


def _results(result: NebResult) -> dict[str, Any]:
    return {
        "barrier_eV": result.barrier,
        "back_barrier_eV": result.back_barrier,
        "reaction_energy_eV": result.reaction_energy,
        "fitted_barrier_eV": result.fitted_barrier_eV,
        "saddle_image": result.saddle,
        "images_with_ends": len(result.path),
        "steps": result.steps[-1].step,
        "max_force_eV_per_A": result.steps[-1].max_force_eV_per_A,
        "path_length_A": float(result.fit.path[-1]),
        "notes": result.notes,
    }
