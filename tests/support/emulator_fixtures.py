"""Fixtures on Google's emulators. Tests that use them bear the mark `emulators` by themselves.

One emulator of each kind serves a whole run, in all its processes; a test has it for itself through a project
name of its own.
"""

import os
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aep.google import emulators
from support.components import require

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore

FIXTURES = {"firestore_host", "pubsub_host"}
KINDS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "pubsub": emulators.running_pubsub,
    "firestore": emulators.running_firestore,
}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("emulators")


class Lender(threading.Thread):
    """Starts an emulator when the first process of the tests asks for it, and ends it with the run."""

    def __init__(self) -> None:
        super().__init__(name="emulators", daemon=True)
        self._ends = ExitStack()
        folder = self._ends.enter_context(tempfile.TemporaryDirectory(prefix="aep-tests-"))
        self.address = str(Path(folder) / "emulators")
        self._listener = self._ends.enter_context(Listener(self.address, "AF_UNIX"))
        self._hosts: dict[str, str] = {}

    def run(self) -> None:
        """Answers with `host:port`, or with the error. The emulators live as long as this thread."""
        with self._ends:
            while True:
                with suppress(ConnectionError, EOFError), self._listener.accept() as asked:
                    if (kind := asked.recv()) is None:
                        return
                    asked.send(self._host(kind))

    def end(self) -> None:
        _ask(self.address, None)
        self.join()

    def _host(self, kind: str) -> str | emulators.EmulatorFailed:
        try:
            if kind not in self._hosts:
                self._hosts[kind] = self._ends.enter_context(KINDS[kind]())
            return self._hosts[kind]
        except emulators.EmulatorFailed as failure:
            return failure


def _ask(address: str, kind: str | None) -> Connection:
    asking = Client(address, "AF_UNIX")
    asking.send(kind)
    return asking


LENDER = pytest.StashKey[Lender]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a process of the tests, before it starts, where it may ask."""
    config = node.config
    if LENDER not in config.stash:
        config.stash[LENDER] = Lender()
        config.stash[LENDER].start()
    node.workerinput["emulators"] = config.stash[LENDER].address


def pytest_unconfigure(config: pytest.Config) -> None:
    if lender := config.stash.get(LENDER, None):
        lender.end()


@contextmanager
def _running(config: pytest.Config, kind: str) -> Iterator[str]:
    address = getattr(config, "workerinput", {}).get("emulators")
    if address is None:
        with KINDS[kind]() as host:
            yield host
        return
    with _ask(address, kind) as asked:
        host = asked.recv()
    if isinstance(host, emulators.EmulatorFailed):
        raise host
    yield host


@pytest.fixture(scope="session")
def pubsub_host(pytestconfig: pytest.Config) -> Iterator[str]:
    """`host:port` of a Pub/Sub emulator. Nothing is put into the environment."""
    found = emulators.find()
    here = os.environ.get(emulators.PUBSUB_HOST) or (found.java and found.pubsub_jar)
    require("Google's Pub/Sub emulator", here)
    with _running(pytestconfig, "pubsub") as host:
        yield host


@pytest.fixture(scope="session")
def firestore_host(pytestconfig: pytest.Config) -> Iterator[str]:
    """`host:port` of a Firestore emulator. Nothing is put into the environment."""
    found = emulators.find()
    here = os.environ.get(emulators.FIRESTORE_HOST) or (found.java and found.firestore_jar)
    require("Google's Firestore emulator", here)
    with _running(pytestconfig, "firestore") as host:
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
