"""Energy, forces and force derivatives through every event that could make them jump.

A curve is continuous at an event if the difference between its two sides shrinks with
the distance from the event. Each test scans such differences for the smooth rules, and
shows that the same scan finds the jump of the published rules, so that it can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import NANO, GraphRules, HeadSpec
from jmp_calc.models.jmp import JMPModel

SMOOTH = GraphRules(
    cutoff=3.0, atom_edge_cutoff=2.8, quadruplet_cutoff=2.5, atom_atom_cutoff=3.5
)
PUBLISHED = GraphRules(
    rules="published",
    cutoff=3.0,
    max_neighbors=30,
    is_periodic=False,
    radial_cutoff=12.0,
)
CAPPED = replace(PUBLISHED, cutoff=6.0, max_neighbors=4)

Curve = Callable[[float], Atoms]


@pytest.fixture(scope="module")
def models() -> dict[str, JMPModel]:
    """The same random weights under both sets of rules, with visible output."""
    sizes = {"num_blocks": 2, "emb_size_atom": 16, "emb_size_edge": 16}
    built = {}
    for rules in ("smooth", "published"):
        config = replace(NANO, **sizes, rules=rules, has_direct_forces=True)
        spec = HeadSpec(
            name="task", graph=SMOOTH, forces="gradient", has_direct_forces=True
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = JMPModel(config, [spec]).double()
        for name, buffer in model.named_buffers():
            if name.endswith("factor"):
                buffer.fill_(3.0)
        built[rules] = model.eval()
    return built


def evaluate(
    model: JMPModel, atoms: Atoms, rules: GraphRules, kind: str = "gradient"
) -> np.ndarray:
    """Energy and forces as one vector."""
    result = model(build_graph(atoms, rules), "task", forces=kind)
    return np.append(result.forces.numpy(force=True).ravel(), result.energy.item())


def jumps(
    model: JMPModel,
    curve: Curve,
    event: float,
    *,
    rules: GraphRules,
    step: float,
    kind: str = "gradient",
) -> tuple[float, float]:
    """Return what values and slopes change by across an event of ``curve``."""
    at = [evaluate(model, curve(event + k * step), rules, kind) for k in (-2, -1, 1, 2)]
    value = np.abs(at[2] - at[1]).max()
    slope = np.abs((at[3] - at[2]) - (at[1] - at[0])).max() / step
    return float(value), float(slope)


def assert_smooth(
    model: JMPModel, curve: Curve, event: float, kind: str = "gradient"
) -> None:
    """Differences across the event must vanish in proportion to the step."""
    wide = jumps(model, curve, event, rules=SMOOTH, step=1e-3, kind=kind)
    narrow = jumps(model, curve, event, rules=SMOOTH, step=1e-4, kind=kind)
    scale = np.abs(evaluate(model, curve(event), SMOOTH, kind)).max()
    for far, near in zip(wide, narrow, strict=True):
        assert near < 0.2 * far + 1e-8 * scale


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


def closing(x: float) -> Atoms:
    """The edge c-b appears at distance x, so the d == c exclusion begins to act."""
    return chain(b=(1.5, 0.0, 0.0), c=(1.5 - x * 0.8, 0.6 * x, 0.0))


@pytest.mark.parametrize("cutoff", sorted(set(SMOOTH.cutoffs.values())))
def test_an_edge_that_enters_a_graph_changes_nothing_at_once(
    models: dict[str, JMPModel], cutoff: float
) -> None:
    assert_smooth(models["smooth"], leaving, cutoff)
    assert_smooth(models["smooth"], leaving, cutoff, kind="direct")


def test_an_edge_that_enters_under_published_rules_makes_a_jump(
    models: dict[str, JMPModel],
) -> None:
    value, _ = jumps(models["published"], leaving, 3.0, rules=PUBLISHED, step=1e-6)
    assert value > 1e-3


def test_the_excluded_term_of_a_closing_triangle_fades_in(
    models: dict[str, JMPModel],
) -> None:
    for cutoff in sorted(set(SMOOTH.cutoffs.values())):
        assert_smooth(models["smooth"], closing, cutoff)


@pytest.mark.parametrize("curve", [bending, bending_far])
def test_a_bond_that_straightens_is_smooth(
    models: dict[str, JMPModel], curve: Curve
) -> None:
    assert_smooth(models["smooth"], curve, 0.0)


@pytest.mark.parametrize("curve", [bending, bending_far])
def test_a_bond_that_straightens_under_published_rules_kicks_the_atoms(
    models: dict[str, JMPModel], curve: Curve
) -> None:
    published, smooth = (
        jumps(models[name], curve, 0.0, rules=rules, step=1e-5)[0]
        for name, rules in (("published", PUBLISHED), ("smooth", SMOOTH))
    )
    assert published > 100 * smooth


def test_an_atom_that_leaves_ends_with_its_own_energy(
    models: dict[str, JMPModel],
) -> None:
    near = evaluate(models["smooth"], leaving(3.6), SMOOTH)
    far = evaluate(models["smooth"], leaving(50.0), SMOOTH)
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-12 * np.abs(far).max())
    assert np.abs(far[9:12]).max() == 0.0


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


def test_a_change_of_the_nearest_neighbours_makes_no_jump(
    models: dict[str, JMPModel],
) -> None:
    assert_smooth(models["smooth"], swapping, 0.0)


def test_a_change_of_the_nearest_neighbours_jumps_under_published_caps(
    models: dict[str, JMPModel],
) -> None:
    value, _ = jumps(models["published"], swapping, 0.0, rules=CAPPED, step=1e-7)
    assert value > 1e-4


def test_the_energy_does_not_depend_on_atom_order(models: dict[str, JMPModel]) -> None:
    atoms = chain()
    order = [3, 0, 4, 2, 1]
    value = evaluate(models["smooth"], atoms, SMOOTH)
    other = evaluate(models["smooth"], atoms[order], SMOOTH)
    assert other[-1] == pytest.approx(value[-1], rel=1e-12)
    np.testing.assert_allclose(
        other[:-1].reshape(-1, 3), value[:-1].reshape(-1, 3)[order], atol=1e-9
    )


def test_the_frame_around_a_bond_may_flip_without_a_trace(
    models: dict[str, JMPModel],
) -> None:
    """The orthonormal frame has a branch where the bond's z component is zero."""

    def tilting(x: float) -> Atoms:
        return chain(b=(1.5, 0.1, x))

    assert_smooth(models["smooth"], tilting, 0.0)
