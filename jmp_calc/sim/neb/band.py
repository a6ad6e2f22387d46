"""A nudged elastic band whose images the calculator gets all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import NEB
from jaxtyping import Float

from jmp_calc.sim.neb.ends import is_free
from jmp_calc.sim.neb.settings import NebSettings
from jmp_calc.sim.side_by_side import compute_together


@dataclass(frozen=True, kw_only=True, slots=True)
class BandStep:
    """The band after one evaluation."""

    step: int
    """Geometries of the band before this one; the first path is 0."""
    is_climbing: bool
    """Whether the highest image climbs."""
    max_force_eV_per_A: float
    """Largest force of the band on an atom, eV/angstrom."""
    barrier_eV: float
    """Highest energy above the first image, eV."""


class BatchedBand(NEB):
    """ASE's band, with energies and forces of all images from one call.

    Args:
        path: Images, both ends included, with results at the ends; moved in place.
        settings: Springs.
        calculator: An ASE calculator, or anything with ``evaluate``.
    """

    def __init__(
        self, path: Sequence[Atoms], settings: NebSettings, calculator: Any
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # ASE's
            list(path),
            k=settings.spring_eV_per_A2,
            climb=False,
            method="improvedtangent",
        )
        self.steps: list[BandStep] = []
        self.last: list[Atoms] = []
        self._calculator = calculator
        self._is_free = is_free(path[0])

    def get_forces(self) -> Float[np.ndarray, "coordinates 3"]:
        """Compute all images together, and return the forces on the band."""
        if self._is_free:
            # before the images are computed: ASE would turn them afterwards
            for before, image in zip(self.images, self.images[1:-1], strict=False):
                minimize_rotation_and_translation(before, image)
        between = self.images[1:-1]
        # optimizers ask again for where they are
        is_new = any(image.calc is None for image in between) or any(
            (image.positions != image.calc.atoms.positions).any() for image in between
        )
        if is_new:
            found = compute_together(between, ("energy", "forces"), self._calculator)
            for image, results in zip(between, found, strict=True):
                set_results(image, results)
        forces: Float[np.ndarray, "coordinates 3"]
        forces = super().get_forces()  # type: ignore[no-untyped-call]  # ASE's
        if is_new or self.climb != self.steps[-1].is_climbing:
            self._remember(forces, is_new=is_new)
        return forces

    @property
    def has_hill(self) -> bool:
        """Whether an image between the ends lies above both of them."""
        energies = [image.get_potential_energy() for image in self.last]
        return bool(max(energies[1:-1]) > max(energies[0], energies[-1]))

    def _remember(
        self, forces: Float[np.ndarray, "coordinates 3"], *, is_new: bool
    ) -> None:
        # whatever moves the images next, these keep their results
        self.last = [with_own_results(image) for image in self.images]
        energies = [image.get_potential_energy() for image in self.images]
        self.steps.append(
            BandStep(
                step=self.steps[-1].step + is_new if self.steps else 0,
                is_climbing=self.climb,
                max_force_eV_per_A=float(np.linalg.norm(forces, axis=1).max()),
                barrier_eV=float(max(energies) - energies[0]),
            )
        )


def set_results(image: Atoms, results: dict[str, Any]) -> None:
    """Attach computed energy and forces to an image.

    Args:
        image: Where they belong.
        results: ``energy`` and ``forces``.
    """
    image.calc = SinglePointCalculator(
        image, energy=float(results["energy"]), forces=np.array(results["forces"])
    )


def with_own_results(image: Atoms) -> Atoms:
    """Return a copy of an image with energy and forces.

    Args:
        image: With results.
    """
    copy: Atoms = image.copy()
    assert image.calc is not None
    set_results(copy, image.calc.results)
    return copy
