"""The networks of all physics tests, built once."""

from __future__ import annotations

import pytest

from jmp_calc.models.jmp import JMPModel
from physics.networks import tiny_model


@pytest.fixture(scope="session")
def smooth() -> JMPModel:
    """A random network with our rules."""
    return tiny_model("smooth")


@pytest.fixture(scope="session")
def published() -> JMPModel:
    """The same weights with the published rules."""
    return tiny_model("published")


@pytest.fixture(params=["smooth", "published"])
def model(request: pytest.FixtureRequest) -> JMPModel:
    """Both networks in turn, for what must hold under either set of rules."""
    found: JMPModel = request.getfixturevalue(request.param)
    return found
