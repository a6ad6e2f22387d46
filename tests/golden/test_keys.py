"""The packed lists of published names are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import pack_keys

SHARED = Path(__file__).parents[3] / "shared" / "parity"


def test_the_packed_lists_hold_both_sizes_and_all_three_kinds_of_model() -> None:
    lists = pack_keys.read_packed()
    kinds = ("pretrain", "gradient", "ft_direct")
    assert set(lists) == {f"{s}__{k}" for s in ("base", "large") for k in kinds}
    assert lists["base__pretrain"]["parameter_count"] == 44_131_328
    assert lists["large__gradient"]["parameter_count"] == 160_874_752
    shapes = lists["large__pretrain"]["state_dict_shapes"]
    assert shapes["backbone.bases.mlp_sbf_qint.weight"] == [128, 49, 64]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not here")
def test_the_packed_lists_equal_the_published_ones() -> None:
    assert pack_keys.read_packed() == pack_keys.read_folder(SHARED)
