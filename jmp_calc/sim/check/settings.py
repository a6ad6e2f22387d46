"""How thoroughly a calculator is checked."""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.sim.requirements import require_at_least, require_positive

DEFAULT_REACH_A = 8.0
"""How far atoms are pulled if nobody knows the cutoff, angstrom."""

TEST_NAMES = (
    "elements",
    "noise",
    "forces",
    "stress",
    "curl",
    "net-force",
    "torque",
    "translation",
    "rotation",
    "permutation",
    "supercell",
    "cutoff",
    "ranks",
    "collinear",
    "nve",
)
"""The tests by name, in the order in which they are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckSettings:
    """Which tests are done, and how thoroughly."""

    quick: bool = False
    """Fewer displacements, coarser scans, shorter dynamics, and no box of water."""
    only: tuple[str, ...] = ()
    """Do this test only; may be repeated. By default all."""
    shake_A: float = 0.05
    """Standard deviation of random displacements before most tests, angstrom, so that
    symmetry hides nothing."""
    reach_A: float | None = None
    """How far an atom is pulled away to cross the cutoff, angstrom; by default a little
    beyond that of the model, 8 if it is not known."""
    temperature_K: float = 300.0
    """Temperature at the start of the dynamics, K."""
    timestep_fs: float | None = None
    """Time step of the dynamics, fs; by default a quarter of what is usual for the
    lightest element, 0.25 for hydrogen."""
    nve_steps: int | None = None
    """Steps of the dynamics; 1000 by default, 100 with --quick."""
    seed: int = 0
    """Seed of everything that is random."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        require_positive(self, "shake_A", "temperature_K")
        for name in ("reach_A", "timestep_fs"):
            if getattr(self, name) is not None:
                require_positive(self, name)
        if self.nve_steps is not None:
            require_at_least(self, nve_steps=100)
        require_at_least(self, seed=0)
        for name in self.only:
            if name not in TEST_NAMES:
                raise ArgumentError(
                    f"only is {name!r}; choose of {', '.join(TEST_NAMES)}"
                    f"{did_you_mean(name, TEST_NAMES)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The tests to do, in order."""
        return tuple(x for x in TEST_NAMES if not self.only or x in self.only)

    @property
    def n_coordinates(self) -> int:
        """Most coordinates that are displaced."""
        return 9 if self.quick else 36

    @property
    def scan_step(self) -> float:
        """Distance of the points of a scan, angstrom."""
        return 0.05 if self.quick else 0.02

    @property
    def n_candidates(self) -> int:
        """Places of a scan that are looked at closely."""
        return 2 if self.quick else 8

    @property
    def n_nve_steps(self) -> int:
        """Steps of the dynamics."""
        if self.nve_steps is not None:
            return self.nve_steps
        return 100 if self.quick else 1000
