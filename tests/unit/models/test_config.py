from __future__ import annotations

import dataclasses

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import NANO, SIZES


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [("num_blocks", 0, 1), ("emb_size_atom", -4, 1), ("num_before_skip", -1, 0)],
)
def test_a_network_that_cannot_be_built_is_refused(field, value, least):
    with pytest.raises(ArgumentError, match=f"{field} is {value}; it must be {least}"):
        dataclasses.replace(NANO, **{field: value})


@pytest.mark.parametrize("size", SIZES)
def test_the_known_sizes_pass(size):
    assert dataclasses.replace(SIZES[size]) == SIZES[size]
