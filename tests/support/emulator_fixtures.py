"""Fixtures on Google's emulators. Tests that use them bear the mark `emulators` by themselves.

One emulator of each kind serves a whole run; a test has it for itself through a project name of its own.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from aep.google import emulators
from support.components import require

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore

FIXTURES = {"firestore_host", "pubsub_host"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("emulators")


@pytest.fixture(scope="session")
def pubsub_host() -> Iterator[str]:
    """`host:port` of a Pub/Sub emulator. Nothing is put into the environment."""
    found = emulators.find()
    here = os.environ.get(emulators.PUBSUB_HOST) or (found.java and found.pubsub_jar)
    require("Google's Pub/Sub emulator", here)
    with emulators.running_pubsub() as host:
        yield host


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    """`host:port` of a Firestore emulator. Nothing is put into the environment."""
    found = emulators.find()
    here = os.environ.get(emulators.FIRESTORE_HOST) or (found.java and found.firestore_jar)
    require("Google's Firestore emulator", here)
    with emulators.running_firestore() as host:
        yield host


@pytest.fixture
def project() -> str:
    """The name of a project that nobody has used before."""
    return f"test-{uuid.uuid4().hex[:20]}"


@pytest.fixture
async def firestore(firestore_host: str, project: str) -> AsyncIterator["Firestore"]:
    """The database of that project. gRPC is only imported where a test needs it."""
    from event_platform.adapters.firestore.client import connect

    opened = connect(project, emulator=firestore_host)
    yield opened
    await opened.close()
