"""A process that may open few files: clients get in whatever receivers do, and the operator is told."""

import contextlib
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_platform.adapters import descriptors
from support import one_pim
from support.processes import command, delivered, http, ready, server, until

FEW = 64
RECEIVERS = 12
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

SERVES_AND_SENDS = """
import asyncio, itertools, resource, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aep.serving import server
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.http_client.client import HttpClient

async def answer(request):
    return PlainTextResponse("got")

async def main(ports):
    client = HttpClient(GuardedNetwork(allow_loopback=True))
    async with server.running(Starlette(routes=[Route("/", answer)])) as url:
        sending = [
            asyncio.create_task(
                client.exchange("POST", f"http://127.0.0.1:{port}/", [], b"{}", owner=port, timeout=600)
            )
            for port in ports * 10
        ]
        await asyncio.wait(sending, return_when=asyncio.FIRST_EXCEPTION)
        refused = [each.exception() for each in sending if each.done()]
        reasons = {each.strerror for each in refused}
        print(url.rpartition(":")[2], len(sending) - len(refused), *reasons, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await client.close()
        await asyncio.wait(sending)

asyncio.run(main([int(each) for each in sys.argv[1:]]))
"""


@pytest.fixture
def silent_receivers() -> Iterator[list[int]]:
    """Ports where connections are made and nothing is ever answered."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)).getsockname()[1]
            for _ in range(RECEIVERS)
        ]


def test_slow_receivers_leave_descriptors_for_clients(silent_receivers: list[int]) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", SERVES_AND_SENDS, *map(str, silent_receivers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started as child, contextlib.ExitStack() as stack:
        assert child.stdout is not None
        port, under_way, refused = child.stdout.readline().split(maxsplit=2)
        assert refused.strip() == "Too many open files"
        assert int(under_way) >= RECEIVERS
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", int(port)), timeout=60))
            for _ in range(FEW // 4)
        ]
        for each in clients:
            each.sendall(GET)
        for each in clients:
            assert each.recv(65536).startswith(b"HTTP/1.1 200 ")
        child.communicate("")
    assert child.returncode == 0


@pytest.mark.provokes("connections.lowered")
def test_a_platform_with_few_files_says_so_and_delivers(tmp_path: Path) -> None:
    with (
        command(tmp_path, "inbox", "--port", "0") as inbox,
        one_pim.serve(tmp_path, "--workers", "0", open_files=FEW) as serve,
    ):
        one_pim.subscribe(serve, f"{ready(inbox).url}/few")
        (event_id,) = one_pim.emit(serve)
        delivered(inbox.url, "/few", event_id)
        lines = [json.loads(line) for line in serve.stderr().splitlines() if line.startswith("{")]
    (lowered,) = [line for line in lines if line["event"] == "connections.lowered"]
    assert (lowered["asked"], lowered["connections"], lowered["open_files"]) == (4096, FEW // 2, FEW)
    assert "LimitNOFILE" in lowered["fix"]


def test_a_number_of_connections_that_fits_is_not_lowered(tmp_path: Path) -> None:
    settings = {"AEP_CONNECTIONS": str(FEW // 2)}
    arguments = [*one_pim.arguments(tmp_path), "--workers", "0"]
    with server(tmp_path, *arguments, settings=settings, open_files=FEW) as serve:
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", int(serve.url.rpartition(":")[2]))
            for _ in range(FEW):
                stack.enter_context(socket.create_connection(address))
            assert http().get(f"{serve.url}/health", timeout=60).status_code == 200
        until(lambda: "connections.full" in serve.stderr(), "a line about connections that had to go")
        assert "connections.lowered" not in serve.stderr()


def test_a_platform_with_too_few_files_does_not_start(tmp_path: Path) -> None:
    arguments = [*one_pim.arguments(tmp_path), "--port", "0"]
    with command(tmp_path, *arguments, open_files=FEW - 1) as serve:
        assert serve.wait() == 2
        assert "at most 63 files may be open, and 64 are needed: raise the hard limit" in serve.stderr()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("limit", [64, 256, 1024, 4096, 65536, descriptors._MANY])
def test_each_kind_has_its_descriptors(limit: int) -> None:
    receivers, clients = descriptors.below_for_receivers(limit), descriptors.below_for_clients(limit)
    assert limit // 2 < receivers < clients < limit
    assert clients - receivers >= min(4096, limit // 4)
    assert descriptors.most_clients(4096, limit) == min(4096, limit // 2)


def test_no_limit_is_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors.below_for_receivers(descriptors.limit()) > 1_000_000
