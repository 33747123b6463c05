"""The example stacks, created on mocks once."""

from collections.abc import Callable

import pytest

from support.deployed import Deployed, configuration, deploy

STACKS = ("production", "minimal")


@pytest.fixture(scope="session")
def deployed() -> Callable[[str], Deployed]:
    """An example stack by its name."""
    known: dict[str, Deployed] = {}

    def of(stack: str) -> Deployed:
        if stack not in known:
            known[stack] = deploy(configuration(stack))
        return known[stack]

    return of


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest, deployed: Callable[[str], Deployed]) -> Deployed:
    """Each example stack."""
    return deployed(request.param)


@pytest.fixture
def production(deployed: Callable[[str], Deployed]) -> Deployed:
    return deployed("production")


@pytest.fixture
def minimal(deployed: Callable[[str], Deployed]) -> Deployed:
    return deployed("minimal")
