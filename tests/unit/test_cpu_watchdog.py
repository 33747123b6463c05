"""The watchdog finds callbacks of the product that take too much CPU, and nobody else's."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop

from support import cpu_watchdog
from support.eventually import eventually
from support.watched_aep import WatchedLoop

TOO_LONG = 1.5 * cpu_watchdog.LIMIT_SECONDS
OF_THE_PRODUCT = """
import asyncio, time

def busy(seconds):
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass

async def busy_task(seconds):
    busy(seconds)

async def importing_task(seconds):
    import antigravity_of_tests
    busy(seconds)

class Receiver(asyncio.Protocol):
    def data_received(self, data):
        busy(float(data))
"""


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A module that is not below the tests, as the product's."""
    (tmp_path / "antigravity_of_tests.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "of_the_product.py"
    file.write_text(OF_THE_PRODUCT)
    names: dict[str, object] = {"__name__": "of_the_product"}
    exec(compile(OF_THE_PRODUCT, str(file), "exec"), names)  # noqa: S102 - the text above
    yield SimpleNamespace(**names)
    sys.modules.pop("antigravity_of_tests", None)


async def test_a_task_is_named_by_its_coroutine(product: SimpleNamespace) -> None:
    await asyncio.create_task(product.busy_task(TOO_LONG))
    (line,) = cpu_watchdog.taken()
    assert line.startswith("task busy_task (")
    assert "of_the_product.py" in line


async def test_a_callback_and_a_timer_are_named(product: SimpleNamespace) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.call_soon(product.busy, TOO_LONG)
    loop.call_later(0, product.busy, TOO_LONG)
    loop.call_later(0.001, done.set)
    await done.wait()
    assert [line.partition(" (")[0] for line in cpu_watchdog.taken()] == ["busy", "busy"]


async def test_what_a_transport_does_is_named_by_its_protocol(product: SimpleNamespace) -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(product.Receiver, sock=ours)
    theirs.sendall(b"%.3f" % TOO_LONG)
    found: list[str] = []
    await eventually(lambda: found.extend(cpu_watchdog.taken()) or found)
    assert "of of_the_product.Receiver" in found[0]
    transport.abort()
    theirs.close()


async def test_what_is_short_imports_or_belongs_to_a_test_is_nothing(product: SimpleNamespace) -> None:
    async def of_a_test() -> None:
        product.busy(TOO_LONG)

    await asyncio.create_task(of_a_test())
    await asyncio.create_task(product.busy_task(cpu_watchdog.LIMIT_SECONDS / 2))
    await asyncio.create_task(product.importing_task(TOO_LONG))
    assert cpu_watchdog.taken() == []


def test_the_garbage_collector_does_not_count() -> None:
    stopwatch = cpu_watchdog.Stopwatch()
    began = time.thread_time()
    while time.thread_time() - began < TOO_LONG:
        gc.collect()
    assert stopwatch.overrun() is None


def test_a_test_fails_for_what_it_made(tmp_path: Path) -> None:
    """The test's own task counts here, as this file is not below the tests."""
    (tmp_path / "of_the_product.py").write_text(OF_THE_PRODUCT)
    file = tmp_path / "test_one.py"
    file.write_text(
        "import of_the_product\n"
        f"async def test_long():\n    of_the_product.busy({TOO_LONG})\n"
        "async def test_short():\n    pass\n"
    )
    paths = os.pathsep.join([str(Path(cpu_watchdog.__file__).parents[1]), str(tmp_path)])
    options = [
        "-p",
        "support.cpu_watchdog",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "--rootdir",
        ".",
    ]
    environment = {**os.environ, "PYTHONPATH": paths}
    environment.pop("COVERAGE_RUN", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "task test_long (" in done.stdout


def test_uvloop_is_watched_too(product: SimpleNamespace, tmp_path: Path) -> None:
    async def run() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(product.Receiver, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"%.3f" % TOO_LONG)
        loop.call_soon(product.busy, TOO_LONG)
        await asyncio.create_task(product.busy_task(TOO_LONG))
        loop.call_later(0.05, done.set)
        await done.wait()
        writer.close()
        server.close()

    WatchedLoop.report = str(tmp_path / "overruns")
    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        runner.run(run())
    found = (tmp_path / "overruns").read_text().splitlines()
    assert sorted(line.partition(" (")[0] for line in found) == [
        "Receiver.data_received",
        "busy",
        "task busy_task",
    ]
