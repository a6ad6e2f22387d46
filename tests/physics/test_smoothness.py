"""Energy, forces and force derivatives through every event that could make them jump.

A curve is smooth at an event if the change of its value and of its slope across the
event shrinks with the distance from it. Curves hold energy and forces, so the slope of
the forces is the second derivative of the energy. Each scan is also shown to find the
jump of the published rules, so that it can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from jmp_calc.graph.build import build_graph, dropped_neighbors
from jmp_calc.models.config import ForceKind, GraphRules
from jmp_calc.models.jmp import JMPModel
from physics.networks import PUBLISHED, SMOOTH, evaluate

CAPPED = replace(PUBLISHED, cutoff=6.0, max_neighbors=4)
"""Published limits that bite; small, so that few atoms show it."""
CUTOFFS = sorted(set(SMOOTH.cutoffs.values()))
WIDE, NARROW = 1e-3, 1e-4
"""Angstrom; two distances from an event."""
SHRINKS = 0.2
"""Upper bound of narrow over wide; 0.1 or less for a smooth curve, 1 for a jump."""
ROUNDING = 1e-8
"""Relative to the largest value: differences below this mean nothing."""

Curve = Callable[[float], Atoms]


def values(
    model: JMPModel,
    curve: Curve,
    at: Sequence[float],
    *,
    rules: GraphRules | None = None,
    kind: ForceKind = "gradient",
) -> np.ndarray:
    """Forces and energy of each point of a curve, one row each."""
    result = evaluate(model, [curve(x) for x in at], rules=rules, kind=kind)
    forces = result.forces.reshape(len(at), -1)
    return np.column_stack([forces, result.energy])


def changes(
    model: JMPModel,
    curve: Curve,
    event: float,
    *,
    step: float,
    rules: GraphRules | None = None,
    kind: ForceKind = "gradient",
) -> np.ndarray:
    """Change of value and of slope across an event, and the error of the event itself.

    The last is how far the value at the event is from the mean of its two sides.
    """
    at = [event + k * step for k in (-2, -1, 0, 1, 2)]
    f = values(model, curve, at, rules=rules, kind=kind)
    rows = [
        f[3] - f[1],
        ((f[4] - f[3]) - (f[1] - f[0])) / step,
        f[2] - (f[1] + f[3]) / 2,
    ]
    return np.abs(rows).max(axis=1)


def is_smooth(
    model: JMPModel,
    curve: Curve,
    event: float,
    *,
    rules: GraphRules | None = None,
    kind: ForceKind = "gradient",
) -> bool:
    """Whether value, slope and the event itself vanish in proportion to the step."""
    far, near = (
        changes(model, curve, event, step=step, rules=rules, kind=kind)
        for step in (WIDE, NARROW)
    )
    scale = np.abs(values(model, curve, [event], rules=rules, kind=kind)).max()
    return bool((near < SHRINKS * far + ROUNDING * scale).all())


def chain(**replaced: tuple[float, float, float]) -> Atoms:
    """Five atoms in general position; some of them moved."""
    positions = {
        "a": (0.0, 0.0, 0.0),
        "b": (1.5, 0.1, 0.0),
        "c": (-0.7, 1.2, 0.3),
        "d": (2.1, 1.3, -0.4),
        "e": (0.6, -1.1, 0.9),
    }
    positions.update(replaced)
    return Atoms("CNOHC", positions=list(positions.values()))


def leaving(x: float) -> Atoms:
    """Atom d moves away from b along x; only b may still see it."""
    return chain(d=(1.5 + x, 0.1, 0.0))


def bending(x: float) -> Atoms:
    """The bond c-a comes in line with a-b at x = 0."""
    return chain(b=(1.5, 0.0, 0.0), c=(-1.2, x, 0.0))


def bending_far(x: float) -> Atoms:
    """The bond d-b comes in line with a-b at x = 0."""
    return chain(b=(1.5, 0.0, 0.0), d=(2.7, x, 0.3 * x))


def bending_both(x: float) -> Atoms:
    """The four atoms c, a, b, d come in line at once."""
    return chain(b=(1.5, 0.0, 0.0), c=(-1.2, x, 0.0), d=(2.7, -0.4 * x, x))


def folding(x: float) -> Atoms:
    """The bond c-a comes to lie along a-b, on the same side, at x = 0."""
    return chain(b=(1.5, 0.0, 0.0), c=(2.6, x, 0.2 * x), d=(0.1, 1.3, -0.4))


def closing(x: float) -> Atoms:
    """The edge c-b appears at distance x, so the d == c exclusion begins to act."""
    return chain(b=(1.5, 0.0, 0.0), c=(1.5 - x * 0.8, 0.6 * x, 0.0))


def tilting(x: float) -> Atoms:
    """The frame around the bond a-b has a branch where its z component is zero."""
    return chain(b=(1.5, 0.1, x))


def swapping(x: float) -> Atoms:
    """The two farthest of five neighbours of the last atom change places at x = 0."""
    ring = [
        (1.6 * np.cos(t), 1.6 * np.sin(t), 0.2 * k)
        for k, t in enumerate((0.3, 1.5, 2.9))
    ]
    far = [
        (0.1, -np.sqrt(4.0 - 0.01) - x, 0.0),
        (-0.9, -0.4, np.sqrt(4.0 - 0.97) + x / 2),
    ]
    # The published rules ask the higher-indexed atom: it must be the central one.
    return Atoms("NOHCNC", positions=[*ring, *far, (0.0, 0.0, 0.0)])


def crowding(x: float) -> Atoms:
    """One more atom comes to the shell of 31 that surrounds the last atom."""
    k = np.arange(31)
    z, turn = 1 - (2 * k + 1) / 31, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    shell = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    shell *= 2.5 + 0.4 * np.cos(7 * k)[:, None]
    return Atoms("C33", [*shell, (x / np.sqrt(2), x / np.sqrt(2), 0), (0, 0, 0)])


def linear(name: str) -> Curve:
    """A molecule on the x axis, of which the last atom leaves the axis sideways."""

    def curve(x: float) -> Atoms:
        atoms = molecule(name)
        atoms.rotate("z", "x")
        atoms.positions[:, 1:] = 0.0
        atoms.positions[-1] += [0.0, x, 0.5 * x]
        return atoms

    return curve


@pytest.mark.parametrize("kind", ["gradient", "direct"])
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_an_edge_that_enters_a_graph_changes_nothing_at_once(
    smooth: JMPModel, cutoff: float, kind: ForceKind
) -> None:
    assert is_smooth(smooth, leaving, cutoff, kind=kind)


@pytest.mark.parametrize("kind", ["gradient", "direct"])
def test_an_edge_that_enters_under_published_rules_makes_a_jump(
    published: JMPModel, kind: ForceKind
) -> None:
    value, _, _ = changes(published, leaving, PUBLISHED.cutoff, step=1e-6, kind=kind)
    assert value > 1e-3
    assert not is_smooth(published, leaving, PUBLISHED.cutoff, kind=kind)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_excluded_term_of_a_closing_triangle_fades_in(
    smooth: JMPModel, cutoff: float
) -> None:
    assert is_smooth(smooth, closing, cutoff)


def test_the_excluded_term_of_a_closing_triangle_jumps_under_published_rules(
    published: JMPModel,
) -> None:
    assert not is_smooth(published, closing, PUBLISHED.cutoff)


@pytest.mark.parametrize("curve", [bending, bending_far, bending_both, folding])
def test_a_bond_that_straightens_is_smooth(smooth: JMPModel, curve: Curve) -> None:
    assert is_smooth(smooth, curve, 0.0)


@pytest.mark.parametrize("curve", [bending, bending_far, bending_both, folding])
def test_a_bond_that_straightens_under_published_rules_kicks_the_atoms(
    published: JMPModel, smooth: JMPModel, curve: Curve
) -> None:
    assert not is_smooth(published, curve, 0.0)
    kick, none = (changes(m, curve, 0.0, step=1e-5)[0] for m in (published, smooth))
    assert kick > 100 * none


@pytest.mark.parametrize("name", ["C2H2", "HCN", "CO2", "N2O"])
def test_a_linear_molecule_bends_without_a_kick(smooth: JMPModel, name: str) -> None:
    assert is_smooth(smooth, linear(name), 0.0)


@pytest.mark.parametrize("name", ["C2H2", "HCN", "CO2", "N2O"])
def test_forces_in_a_linear_molecule_point_along_it(
    smooth: JMPModel, name: str
) -> None:
    forces = evaluate(smooth, linear(name)(0.0)).forces
    assert np.abs(forces[:, 0]).min() > 0
    assert np.abs(forces[:, 1:]).max() < 1e-12 * np.abs(forces).max()


def scan(model: JMPModel, curve: Curve, start: float, end: float, step: float) -> float:
    """Largest second difference along a whole curve."""
    at = np.arange(start, end, step)
    return float(np.abs(np.diff(values(model, curve, at), n=2, axis=0)).max())


@pytest.mark.parametrize(
    ("rules", "low", "high"), [("smooth", 0.0, 0.1), ("published", 0.5, 1.5)]
)
def test_an_atom_that_leaves_does_so_without_a_jump_unless_rules_are_published(
    rules: str, low: float, high: float, request: pytest.FixtureRequest
) -> None:
    """A quarter of the step: 1/16 where smooth, 1/4 at a kink, 1 at a jump."""
    model = request.getfixturevalue(rules)
    wide, narrow = (scan(model, leaving, 2.45, 5.0, step) for step in (0.03, 0.0075))
    assert low < narrow / wide < high


def test_an_atom_that_left_has_its_own_energy_and_no_force(smooth: JMPModel) -> None:
    near, far = values(smooth, leaving, [4.6, 50.0])
    rest, alone = evaluate(smooth, [chain()[[0, 1, 2, 4]], Atoms("H")]).energy
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-12 * np.abs(far).max())
    assert far[-1] == pytest.approx(rest + alone, rel=1e-12)
    assert np.abs(far[9:12]).max() == 0.0


def test_a_change_of_the_nearest_neighbours_makes_no_jump(smooth: JMPModel) -> None:
    assert is_smooth(smooth, swapping, 0.0)


def test_a_change_of_the_nearest_neighbours_jumps_under_published_limits(
    published: JMPModel,
) -> None:
    value, _, _ = changes(published, swapping, 0.0, rules=CAPPED, step=1e-7)
    assert value > 1e-4
    assert is_smooth(published, swapping, 0.0)  # the same without a limit


def test_a_crowded_atom_keeps_all_its_neighbours(smooth: JMPModel) -> None:
    atoms = crowding(3.9)
    graph = build_graph(atoms, SMOOTH)
    distance = np.linalg.norm(atoms.positions[:-1], axis=1)
    for name, cutoff in SMOOTH.cutoffs.items():
        edges = getattr(graph, name)
        assert (edges.target == 32).sum() == (distance <= cutoff).sum()
    assert set(dropped_neighbors(atoms, SMOOTH).values()) == {0}


def test_another_neighbour_of_a_crowded_atom_makes_no_jump(smooth: JMPModel) -> None:
    assert is_smooth(smooth, crowding, SMOOTH.cutoff)


def test_the_frame_around_a_bond_may_flip_without_a_trace(model: JMPModel) -> None:
    assert is_smooth(model, tilting, 0.0)


def pair_force(model: JMPModel, distance: float) -> float:
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, distance]])
    return float(np.abs(evaluate(model, atoms, kind="direct").forces).max())


def test_direct_forces_fade_with_the_envelope_under_smooth_rules(
    smooth: JMPModel, published: JMPModel
) -> None:
    """The envelope has a triple root at the cutoff: its force falls by 1000 per 10."""
    end = SMOOTH.cutoff
    far, near = pair_force(smooth, end - 0.02), pair_force(smooth, end - 0.002)
    assert near / far == pytest.approx(1e-3, rel=0.1)
    assert pair_force(published, end - 1e-6) > 1e-3
