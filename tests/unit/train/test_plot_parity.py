from __future__ import annotations

import numpy as np
import pytest

from jmp_train.plots.parity import MANY_POINTS, Parity, draw_confusion, draw_parity


def parity(n: int, *, error: float = 0.1, shift: float = 0.0) -> Parity:
    random = np.random.default_rng(0)
    label = random.normal(0, 1, n)
    predicted = label + random.normal(shift, error, n)
    return Parity(
        title="force components",
        unit="eV/Å",
        error_unit="meV/Å",
        error_factor=1000.0,
        pairs=np.stack([label, predicted], axis=1),
        n_all=3 * n,
    )


def test_both_axes_name_the_unit() -> None:
    top, bottom = draw_parity([parity(20)], "toy").axes
    assert top.get_xlabel() == "label (eV/Å)"
    assert bottom.get_xlabel() == "error, prediction − label (meV/Å)"


def test_the_histogram_states_the_errors_in_its_unit() -> None:
    found = parity(20)
    mae = 1000 * np.abs(found.pairs[:, 1] - found.pairs[:, 0]).mean()
    title = draw_parity([found], "toy").axes[1].get_title()
    assert f"MAE {mae:.3g}" in title


def test_few_points_are_drawn_one_by_one() -> None:
    axes = draw_parity([parity(30)], "toy").axes[0]
    assert [len(c.get_offsets()) for c in axes.collections] == [30]


def test_of_many_points_the_density_is_drawn() -> None:
    axes = draw_parity([parity(MANY_POINTS)], "toy").axes[0]
    assert len(axes.collections[0].get_offsets()) < MANY_POINTS


def test_a_random_part_of_the_points_is_said_to_be_one() -> None:
    axes = draw_parity([parity(30)], "toy").axes[0]
    assert any("30 of 90 points" in text.get_text() for text in axes.texts)


def test_a_constant_error_does_not_push_the_points_out_of_the_picture() -> None:
    axes = draw_parity([parity(30, shift=50.0)], "toy").axes[0]
    low, high = axes.get_ylim()
    points = axes.collections[0].get_offsets()
    assert ((points[:, 1] > low) & (points[:, 1] < high)).all()
    assert any(
        "drawn without the median error" in text.get_text() for text in axes.texts
    )


def test_a_prediction_far_off_does_not_hide_the_rest() -> None:
    found = parity(1000)
    found.pairs[0, 1] = 1e6
    axes = draw_parity([found], "toy").axes[0]
    assert axes.get_ylim()[1] < 10
    assert any("1 outside" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("label", [0.0, 3.0])
def test_labels_that_are_all_equal_can_be_drawn(label) -> None:
    pairs = np.full((5, 2), label)
    same = Parity(
        title="t", unit="", error_unit="", error_factor=1.0, pairs=pairs, n_all=5
    )
    low, high = draw_parity([same], "toy").axes[0].get_xlim()
    assert low < label < high


def test_confusion_has_labels_as_rows() -> None:
    axes = draw_confusion([[8, 2], [1, 3]], ["no", "yes"], "toy").axes[0]
    cells = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    # the column comes first in a position
    assert (cells[1, 0], cells[0, 1]) == ("2", "1")
