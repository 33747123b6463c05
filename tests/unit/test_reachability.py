"""A function waits for its network before its port opens, for a time that has an end."""

import re
import socket
from collections.abc import Collection, Mapping

import pytest
from structlog.testing import capture_logs

from event_platform import wiring
from event_platform.adapters.reachability import (
    PAUSE_SECONDS,
    TRY_SECONDS,
    Unreachable,
    connect,
    wait_until_reachable,
)
from event_platform.settings import FunctionSettings
from support.processes import free_port

STORE, NEAR, FAR = "store.example:443", "192.0.2.1:443", "192.0.2.2:443"


class Network:
    """Addresses that take connections from a second on; the others let whoever tries wait in vain."""

    def __init__(self, opens_at: Mapping[str, float]) -> None:
        self._opens_at = opens_at
        self._now = 0.0
        self.tried: list[str] = []

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def connect(self, address: str, timeout: float) -> None:
        self.tried.append(address)
        if self._now < self._opens_at.get(address, 1e9):
            self._now += timeout
            raise TimeoutError("timed out")

    def wait(self, *alternatives: Collection[str], limit: float = 120.0) -> float:
        return wait_until_reachable(
            *map(list, alternatives),
            limit=limit,
            connect=self.connect,
            monotonic=self.monotonic,
            sleep=self.sleep,
        )


def test_who_finds_everything_reachable_goes_on_at_once() -> None:
    assert Network({STORE: 0, NEAR: 0}).wait([STORE], [NEAR, FAR]) == 0


def test_the_port_waits_for_the_store_and_for_one_of_the_addresses() -> None:
    a_round = 2 * TRY_SECONDS + PAUSE_SECONDS
    for store, public in ((40, 0), (0, 40), (40, 40)):
        seconds = Network({STORE: store, FAR: public}).wait([STORE], [NEAR, FAR])
        assert 40 <= seconds <= 40 + 2 * a_round, (store, public)


def test_what_was_reached_is_not_tried_again() -> None:
    network = Network({STORE: 0, NEAR: 40})
    network.wait([STORE], [NEAR])
    assert network.tried.count(STORE) == 1


def test_after_the_limit_what_could_not_be_reached_is_named() -> None:
    network = Network({STORE: 0})
    with pytest.raises(Unreachable, match=re.escape(f"within 120 s to {NEAR} or {FAR} (timed out)")):
        network.wait([STORE], [NEAR, FAR])
    assert 120 <= network.monotonic() <= 120 + TRY_SECONDS + PAUSE_SECONDS
    with pytest.raises(Unreachable, match=re.escape(f"to {STORE} (timed out), nor to {NEAR} (timed out)")):
        Network({}).wait([STORE], [NEAR])


def test_a_connection_is_made_to_a_name_and_to_an_address_of_either_family() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect(f"127.0.0.1:{port}", 5.0)
        connect(f"localhost:{port}", 5.0)
    with pytest.raises(ConnectionRefusedError):
        connect(f"127.0.0.1:{port}", 5.0)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        connect(f"[::1]:{listener.getsockname()[1]}", 5.0)


def test_of_a_name_with_many_addresses_four_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here, nothing = listener.getsockname(), ("127.0.0.1", free_port())

        def resolve_to(*addresses: tuple[str, int]) -> None:
            found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

        resolve_to(nothing, nothing, nothing, here)
        connect(STORE, 5.0)
        resolve_to(nothing, nothing, nothing, nothing, here)
        with pytest.raises(ConnectionRefusedError):
            connect(STORE, 5.0)


def function_settings(monkeypatch: pytest.MonkeyPatch, *, store: str, await_network: str) -> FunctionSettings:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", store)
    monkeypatch.setenv("AEP_AWAIT_NETWORK", await_network)
    return FunctionSettings()  # pyright: ignore[reportCallIssue] - from the environment


def test_a_function_without_a_network_ends_with_what_it_could_not_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:
        here, nothing = f"127.0.0.1:{store.getsockname()[1]}", f"127.0.0.1:{free_port()}"
        settings = function_settings(monkeypatch, store=here, await_network=nothing)
        with pytest.raises(wiring.NoNetwork, match=f"^aep: no connection within 0 s to {nothing} ") as ended:
            wiring.await_network(settings, limit=0)
    assert "AEP_AWAIT_NETWORK" in str(ended.value)
    assert here not in str(ended.value)


@pytest.mark.provokes("network.reached")
def test_how_long_the_network_took_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there, capture_logs() as lines:
        address = f"127.0.0.1:{there.getsockname()[1]}"
        wiring.await_network(function_settings(monkeypatch, store=address, await_network=address), limit=0)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("network.reached", "info")


def test_a_function_that_is_not_told_so_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = f"127.0.0.1:{free_port()}"
    wiring.await_network(function_settings(monkeypatch, store=nothing, await_network=""), limit=0)
