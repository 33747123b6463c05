"""Many clients that keep their connections, and many receivers that are slow: what each costs in memory."""

import resource
import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from ..errors import BenchFailed
from ..events import structured
from ..figures import Figure, at_most, case
from ..measuring import Bench, Load
from ..platform import Platform
from ..tenants import key_of, put_pims

SMALL, WHOLE = (250, 1000), (2000, 10_000)
EACH = 400
MOST_ATTEMPTS = 2048
"""The attempts that a platform makes at once at most."""
ADDRESSES = 64
SETTLE_SECONDS = 2.0
OTHER_FILES = 100
HELD_OUT = {"AEP_TIMEOUT": "86400"}


@case("connections", "clients that stay connected, and receivers that are slow", by_default=False)
def connections(bench: Bench) -> list[Figure]:
    few, many = WHOLE if bench.options.whole else SMALL
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    many = min(many, files // 2 - OTHER_FILES)
    with bench.installed({**HELD_OUT, "AEP_CONNECTIONS": str(min(16_384, files // 2))}) as installation:
        endpoints = bench.endpoints([f"/gate/{number}" for number in range(EACH)])
        pims = 1 + -(-many // EACH)
        put_pims(installation.folder / "data", endpoints, pims=pims, each=EACH, busy=EACH)
        bench.sink.ask("reset")
        bench.sink.ask("close")
        with installation.running() as platform:
            clients = _clients(platform, few, many)
        with installation.running() as platform:
            receivers = _receivers(bench, platform, few, many)
            platform.kill()
        bench.sink.ask("open")
    return [*clients, *receivers]


def _clients(platform: Platform, few: int, many: int) -> list[Figure]:
    """Returns what clients take that have sent one request and stay connected."""
    with ExitStack() as held:
        _call(platform, held, 1)
        before = platform.pss_mb()
        clients = _call(platform, held, few)
        of_few = _kb_each(platform, before, few)
        clients += _call(platform, held, many - few)
        of_many = _kb_each(platform, before, many)
        if ended := sum(map(_is_ended, clients)):
            raise BenchFailed(f"{ended} of {many} clients were disconnected")
    return [
        Figure("clients connected, none refused", many, ""),
        Figure(f"memory of each of {few:,} clients", of_few, "KB", at_most(40)),
        Figure("memory of each of all clients", of_many, "KB", at_most(40)),
    ]


def _call(platform: Platform, held: ExitStack, number: int) -> list[socket.socket]:
    """Returns so many more clients, of which each has sent a request that matches nothing.

    Raises BenchFailed unless it was taken.
    """
    clients: list[socket.socket] = []
    target = urlsplit(platform.url)
    address = (target.hostname or "", target.port or 80)
    for place in range(number):
        own = f"127.0.1.{place % ADDRESSES + 1}", 0  # as one address may have but some of the connections
        client = held.enter_context(socket.create_connection(address, timeout=30, source_address=own))
        body = structured(f"client-{time.monotonic_ns():x}", 0, 500).replace(
            b"product.updated", b"product.deleted"
        )
        head = (
            f"POST /ingest HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {key_of(0)}\r\n"
            f"Content-Type: application/cloudevents+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        if not (answer := client.recv(4096)).startswith(b"HTTP/1.1 202 "):
            raise BenchFailed(f"a client was answered {answer[:80]!r}")
        clients.append(client)
    return clients


def _is_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def _receivers(bench: Bench, platform: Platform, few: int, many: int) -> list[Figure]:
    """Returns what receivers take that got a delivery each and do not answer, those of one PIM left out."""
    _deliver(bench, platform, 0, 1)
    before, first = platform.pss_mb(), 1 + -(-few // EACH)
    _deliver(bench, platform, 1, first)
    few = (first - 1) * EACH
    of_few = _kb_each(platform, before, few)
    last = 1 + -(-many // EACH)
    _deliver(bench, platform, first, last)
    many = (last - 1) * EACH
    return [
        Figure("slow receivers", many, ""),
        Figure("attempts at once", bench.sink.ask("came"), "", at_most(MOST_ATTEMPTS)),
        Figure(f"memory of each of {few:,} receivers", of_few, "KB", at_most(40)),
        Figure("memory of each of all receivers", _kb_each(platform, before, many), "KB", at_most(40)),
    ]


def _deliver(bench: Bench, platform: Platform, first: int, last: int) -> None:
    """Has one event delivered to all receivers of these PIMs, and waits until no more come."""
    keys = [key_of(number) for number in range(first, last)]
    bench.fill(platform, Load(len(keys), connections=1, keys=keys))
    before = -1
    while (came := bench.sink.ask("came")) > before:
        before = came
        time.sleep(SETTLE_SECONDS)


def _kb_each(platform: Platform, before: float, number: int) -> float:
    return (platform.pss_mb() - before) * 1000 / number
