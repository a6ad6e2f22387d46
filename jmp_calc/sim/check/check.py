"""Do all tests on one system, and tell what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase import Atoms

from jmp_calc.errors import JMPError
from jmp_calc.sim.check.cost import expected_evaluations
from jmp_calc.sim.check.derivatives import (
    check_curl,
    check_forces,
    check_noise,
    check_stress,
)
from jmp_calc.sim.check.dynamics import check_nve
from jmp_calc.sim.check.invariance import (
    check_net_force,
    check_permutation,
    check_rotation,
    check_supercell,
    check_torque,
    check_translation,
)
from jmp_calc.sim.check.measurement import (
    FAIL,
    HIDDEN_NOTE,
    PASS,
    Measurement,
    failed,
)
from jmp_calc.sim.check.probe import REFUSED, Probe
from jmp_calc.sim.check.settings import CheckSettings
from jmp_calc.sim.check.smoothness import check_collinear, check_cutoff, check_ranks


def check_elements(probe: Probe) -> list[Measurement]:
    """See whether the calculator computes the structure at all.

    Args:
        probe: The system.
    """
    probe.evaluate([probe.given])
    elements = " ".join(sorted(set(probe.given.symbols)))
    return [Measurement(quantity="covered", status=PASS, note=elements)]


TESTS: dict[str, Callable[[Probe], list[Measurement]]] = {
    "elements": check_elements,
    "noise": check_noise,
    "forces": check_forces,
    "stress": check_stress,
    "curl": check_curl,
    "net-force": check_net_force,
    "torque": check_torque,
    "translation": check_translation,
    "rotation": check_rotation,
    "permutation": check_permutation,
    "supercell": check_supercell,
    "cutoff": check_cutoff,
    "ranks": check_ranks,
    "collinear": check_collinear,
    "nve": check_nve,
}
"""Test -> its function; names and order are those of ``settings.TEST_NAMES``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """Outcome of :func:`run_check`."""

    measurements: dict[str, list[Measurement]]
    """What each test found."""

    @property
    def failed(self) -> list[str]:
        """Tests of which a measurement fails."""
        return [
            test
            for test, found in self.measurements.items()
            if any(measurement.status == FAIL for measurement in found)
        ]

    @property
    def hidden(self) -> list[str]:
        """Tests of which a measurement says nothing because of noise."""
        return [
            test
            for test, found in self.measurements.items()
            if any(measurement.note == HIDDEN_NOTE for measurement in found)
        ]

    def table(self) -> list[dict[str, Any]]:
        """Return plain data, a row per measurement."""
        return [
            {"test": test, **asdict(measurement)}
            for test, found in self.measurements.items()
            for measurement in found
        ]


def run_check(
    atoms: Atoms,
    settings: CheckSettings,
    *,
    calculator: Any,
    reach_A: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    report: Callable[[str, list[Measurement]], None] | None = None,
) -> CheckResult:
    """Test a calculator on one structure.

    A calculator that refuses a test fails it. One that refuses the structure itself
    fails the test of elements, and there are no others. Where noise hides what a test
    looks for, the test of noise is done although it is not asked for.

    Args:
        atoms: The structure; not changed. Constraints and velocities do not matter.
        settings: What to do.
        calculator: Any ASE calculator, in double precision where it can.
        reach_A: Beyond the cutoff of the calculator, angstrom; None: not known.
        progress: Called before each test and while it goes on with its name, the number
            of structures computed so far, and about how many there will be in all.
        report: Called after each test with its name and what it found.
    """
    name, expected = settings.names[0], 0

    def tell(n_evaluated: int) -> None:
        if progress is not None:
            progress(name, n_evaluated, max(expected, n_evaluated))

    probe = Probe(atoms, calculator, settings, reach_A, tell)
    found: dict[str, list[Measurement]] = {}

    def do(test: str) -> None:
        found[test] = _tried(TESTS[test], probe)
        if report is not None:
            report(test, found[test])

    for number, name in enumerate(settings.names):
        to_do = settings.names[number:]
        expected = probe.n_evaluated + expected_evaluations(probe, to_do)
        tell(probe.n_evaluated)
        do(name)
        if name == "elements" and found[name][0].status == FAIL:
            break
    result = CheckResult(measurements=found)
    if result.hidden and "noise" not in found:
        do("noise")
    return result


def _tried(
    test: Callable[[Probe], Sequence[Measurement]], probe: Probe
) -> list[Measurement]:
    try:
        return list(test(probe))
    except (JMPError, *REFUSED) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return [failed("refused", text)]
