"""Who calls: the three ways of proving it, and what is remembered, against a PIM over a socket.

The PIM is the simulated one; it counts its calls, and a test can put another answer in its place.
"""

import asyncio
import hashlib
import hmac
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from aep.sandbox.pim import connections
from aep.sandbox.pim.app import create_app
from aep.serving import server
from event_platform.adapters import https
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway
from event_platform.domain.errors import PimUnavailable, Unauthenticated
from event_platform.domain.front_door import ADDRESS_BURST, PIM_BURST
from event_platform.domain.subscriptions import Owner
from event_platform.domain.tenants import Tenant
from event_platform.manage.identity import Caller, CallerVerifier
from support.clock import ManualClock
from support.processes import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

ERP = connections.Client("erp", "erp-secret", "erp-user", "erp-password")
SHOP = connections.Client("shop", "shop-secret", "shop-user", "shop-password")
ADDRESS = "192.0.2.1"
INFO = "/api/rest/v1/token-info"
CHANNELS = "/api/rest/v1/channels?limit=1"


class CountingPim:
    """The simulated PIM under many paths, each a PIM of its own; `answers` go before what it would say."""

    def __init__(self) -> None:
        self.sim = create_app([ERP, SHOP])
        self.memory: connections.Connections = self.sim.state.pim.connections
        self.calls: Counter[str] = Counter()
        self.called = asyncio.Event()
        self.answers: dict[str, tuple[int, bytes, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.sim(scope, receive, send)
            return
        query = scope["query_string"].decode()
        self.calls[scope["path"] + (f"?{query}" if query else "")] += 1
        self.called.set()
        name = scope["path"].split("/")[1]
        app: ASGIApp = self.sim
        if name in self.answers:
            status, body, seconds = self.answers[name]
            await asyncio.sleep(seconds)
            app = Response(body, status)
        await app({**scope, "path": scope["path"].removeprefix(f"/{name}")}, receive, send)


@dataclass
class SimulatedPims:
    pim: CountingPim
    url: str
    gateway: HttpsPimGateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[SimulatedPims]:
    pim = CountingPim()
    gateway = HttpsPimGateway(GuardedNetwork(allow_loopback=True), TrustedNetwork())
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server.running(pim))
        stack.push_async_callback(gateway.close)
        yield SimulatedPims(pim, url, gateway)


class Registry:
    """The port `TenantRegistry`."""

    def __init__(self, *entries: Tenant) -> None:
        self.entries = entries

    async def tenants(self) -> tuple[Tenant, ...]:
        return self.entries


@dataclass
class Pim:
    """A PIM that no other test has, and a verifier that knows it alone."""

    world: SimulatedPims
    name: str
    clock: ManualClock = field(default_factory=ManualClock)

    @property
    def url(self) -> str:
        return f"{self.world.url}/{self.name}"

    def verifier(self, **entry: Any) -> CallerVerifier:
        tenant = Tenant.model_validate({"url": self.url} | entry)
        return CallerVerifier(Registry(tenant), self.world.gateway, self.clock, allow_http=True)

    def calls(self, path: str = INFO) -> int:
        return self.world.pim.calls[f"/{self.name}{path}"]

    def all_calls(self) -> int:
        calls = self.world.pim.calls
        return sum(count for path, count in calls.items() if path.startswith(f"/{self.name}/"))

    def answers(self, status: int, body: Any = None, *, seconds: float = 0) -> None:
        """From now on, whatever it is asked."""
        text = body if isinstance(body, bytes) else orjson.dumps(body)
        self.world.pim.answers[self.name] = (status, text, seconds)

    def answers_by_itself(self) -> None:
        del self.world.pim.answers[self.name]

    def token(self, client: connections.Client = ERP) -> str:
        password = {"grant_type": "password", "username": client.username, "password": client.password}
        return self.world.pim.memory.grant(client, password)["access_token"]

    def headers(self, token: str, client_id: str = "erp") -> dict[str, str]:
        return {"X-PIM-URL": self.url, "X-PIM-TOKEN": token, "X-PIM-CLIENT-ID": client_id}


_numbers = itertools.count(1)


@pytest.fixture
def pim(world: SimulatedPims) -> Iterator[Pim]:
    yield Pim(world, f"pim-{next(_numbers)}")
    for client in (ERP, SHOP):
        world.pim.memory.permit(client.client_id, event_platform=True)


async def refused(verifier: CallerVerifier, headers: dict[str, str], address: str = ADDRESS) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await verifier.verify(headers, address)
    return str(raised.value)


async def test_a_token_of_the_client_is_good(pim: Pim) -> None:
    caller = await pim.verifier().verify(pim.headers(pim.token()), ADDRESS)
    assert caller == Caller(Owner(pim.url, "erp"), pim.url, may_subscribe=True)


@pytest.mark.parametrize(
    ("token_of", "client_id"), [(SHOP, "erp"), (ERP, "shop"), (ERP, "ERP")], ids=["shop", "erp", "case"]
)
async def test_a_token_of_another_client_is_refused(
    pim: Pim, token_of: connections.Client, client_id: str
) -> None:
    assert "another client" in await refused(pim.verifier(), pim.headers(pim.token(token_of), client_id))


async def test_a_token_that_the_pim_does_not_know_is_refused(pim: Pim) -> None:
    assert "X-PIM-TOKEN" in await refused(pim.verifier(), pim.headers("made-up"))


async def test_without_the_permission_the_caller_is_known_and_may_not_subscribe(pim: Pim) -> None:
    pim.world.pim.memory.permit("erp", event_platform=False)
    caller = await pim.verifier().verify(pim.headers(pim.token()), ADDRESS)
    assert not caller.may_subscribe


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        ({}, True),
        ({"event_platform": True}, True),
        ({"event_platform": False}, False),
    ],
    ids=str,
)
async def test_the_permission_is_there_unless_the_answer_takes_it_away(
    pim: Pim, answer: dict[str, Any], allowed: bool
) -> None:
    pim.answers(200, {"client_id": "erp"} | answer)
    assert (await pim.verifier().verify(pim.headers("token"), ADDRESS)).may_subscribe is allowed


@pytest.mark.provokes("pim.unknown")
async def test_the_operator_learns_which_pim_is_unknown_and_the_command_once_a_minute(pim: Pim) -> None:
    stranger = CallerVerifier(Registry(), pim.world.gateway, pim.clock, allow_http=True)
    with capture_logs() as logs:
        for _ in range(3):
            said = await refused(stranger, pim.headers("the-token"))
            assert said.startswith(f"X-PIM-URL names {pim.url}, a PIM that")
    (line,) = logs
    assert (line["event"], line["url"], line["times"]) == ("pim.unknown", pim.url, 1)
    assert f"`aep pims add {pim.url}`" in line["fix"]
    assert "the-token" not in str(line)


async def test_an_unknown_pim_is_refused_without_a_call(pim: Pim) -> None:
    stranger = CallerVerifier(Registry(), pim.world.gateway, pim.clock, allow_http=True)
    assert "X-PIM-URL" in await refused(stranger, pim.headers(pim.token()))
    assert pim.all_calls() == 0


@pytest.mark.parametrize("name", ["X-PIM-URL", "X-PIM-TOKEN", "X-PIM-CLIENT-ID"])
async def test_a_missing_header_is_named_and_nobody_is_asked(pim: Pim, name: str) -> None:
    headers = pim.headers(pim.token())
    del headers[name]
    assert name in await refused(pim.verifier(), headers)
    assert pim.all_calls() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-PIM-URL", "https://pim.example.com/" + "a" * 2048),
        ("X-PIM-TOKEN", "t" * 4097),
        ("X-PIM-CLIENT-ID", "c" * 257),
        ("X-PIM-CLIENT-ID", "erp\x85\x1b[2J"),
    ],
)
async def test_a_header_beyond_its_bounds_is_named_and_nobody_is_asked(
    pim: Pim, name: str, value: str
) -> None:
    assert name in await refused(pim.verifier(), pim.headers(pim.token()) | {name: value})
    assert pim.all_calls() == 0


# What is remembered


async def test_a_good_answer_is_remembered_for_60_seconds(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    await verifier.verify(headers, ADDRESS)
    await pim.clock.advance(59.9)
    await verifier.verify(headers, ADDRESS)
    assert pim.calls() == 1
    await pim.clock.advance(0.1)
    await verifier.verify(headers, ADDRESS)
    assert pim.calls() == 2


async def test_being_used_keeps_no_answer_alive_for_longer(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    await verifier.verify(headers, ADDRESS)
    pim.answers(401)
    for _ in range(5):
        await pim.clock.advance(11.9)
        await verifier.verify(headers, ADDRESS)
    await pim.clock.advance(1)
    await refused(verifier, headers)


async def test_a_bad_answer_is_remembered_for_5_seconds(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers("not yet known")
    await refused(verifier, headers)
    pim.answers(200, {"client_id": "erp"})
    await pim.clock.advance(4.9)
    await refused(verifier, headers)
    assert pim.calls() == 1
    await pim.clock.advance(0.1)
    await verifier.verify(headers, ADDRESS)
    assert pim.calls() == 2


async def test_the_permission_is_remembered_with_the_answer(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    assert (await verifier.verify(headers, ADDRESS)).may_subscribe
    pim.world.pim.memory.permit("erp", event_platform=False)
    assert (await verifier.verify(headers, ADDRESS)).may_subscribe
    await pim.clock.advance(60)
    assert not (await verifier.verify(headers, ADDRESS)).may_subscribe


async def test_a_permission_that_is_given_counts_after_5_seconds(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    pim.world.pim.memory.permit("erp", event_platform=False)
    assert not (await verifier.verify(headers, ADDRESS)).may_subscribe
    pim.world.pim.memory.permit("erp", event_platform=True)
    await pim.clock.advance(5)
    assert (await verifier.verify(headers, ADDRESS)).may_subscribe


async def test_what_is_remembered_is_good_for_the_whole_triple_only(pim: Pim) -> None:
    token, twin = pim.token(), Pim(pim.world, f"{pim.name}-twin")
    tenants = Registry(Tenant(url=pim.url), Tenant(url=twin.url))
    verifier = CallerVerifier(tenants, pim.world.gateway, pim.clock, allow_http=True)
    await verifier.verify(pim.headers(token), ADDRESS)
    await refused(verifier, pim.headers(token, "shop"))
    await refused(verifier, pim.headers(token + "x"))
    assert (pim.calls(), twin.calls()) == (3, 0)
    twin.answers(401)
    await refused(verifier, twin.headers(token))
    assert twin.calls() == 1


async def test_20_callers_at_once_are_one_question(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    callers = await asyncio.gather(*(verifier.verify(headers, ADDRESS) for _ in range(20)))
    assert {caller.owner.client_id for caller in callers} == {"erp"}
    assert pim.calls() == 1


async def test_a_caller_who_leaves_takes_the_answer_from_no_other(pim: Pim) -> None:
    pim.answers(200, {"client_id": "erp"}, seconds=0.2)
    verifier, headers = pim.verifier(), pim.headers("token")
    pim.world.pim.called.clear()
    leaving, staying = [asyncio.create_task(verifier.verify(headers, ADDRESS)) for _ in range(2)]
    await pim.world.pim.called.wait()
    leaving.cancel()
    assert (await staying).owner.client_id == "erp"
    assert leaving.cancelled()
    assert pim.calls() == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_pim_that_cannot_answer_is_unavailable_and_asked_again(pim: Pim, status: int) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    pim.answers(status)
    for calls in (1, 2):
        with pytest.raises(PimUnavailable):
            await verifier.verify(headers, ADDRESS)
        assert pim.calls() == calls
    pim.answers_by_itself()
    await verifier.verify(headers, ADDRESS)


async def test_an_outage_is_no_news_about_a_token_that_was_verified(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    await verifier.verify(headers, ADDRESS)
    pim.answers(503)
    await pim.clock.advance(59)
    await verifier.verify(headers, ADDRESS)
    await pim.clock.advance(1)
    with pytest.raises(PimUnavailable):
        await verifier.verify(headers, ADDRESS)


async def test_20_callers_of_a_pim_that_is_down_are_one_question_too(pim: Pim) -> None:
    pim.answers(503)
    verifier, headers = pim.verifier(), pim.headers("token")
    results = await asyncio.gather(
        *(verifier.verify(headers, ADDRESS) for _ in range(20)), return_exceptions=True
    )
    assert {type(result) for result in results} == {PimUnavailable}
    assert pim.calls() == 1


async def test_a_pim_that_is_too_slow_is_unavailable(pim: Pim, monkeypatch: pytest.MonkeyPatch) -> None:
    assert https.PIM_SECONDS == 3
    monkeypatch.setattr(https, "PIM_SECONDS", 0.1)
    pim.answers(200, {"client_id": "erp"}, seconds=0.5)
    verifier, headers = pim.verifier(), pim.headers("token")
    with pytest.raises(PimUnavailable):
        await verifier.verify(headers, ADDRESS)
    pim.answers(200, {"client_id": "erp"})
    await verifier.verify(headers, ADDRESS)


async def test_a_pim_that_is_not_reached_is_unavailable(pim: Pim) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    verifier = CallerVerifier(Registry(Tenant(url=url)), pim.world.gateway, pim.clock, allow_http=True)
    with pytest.raises(PimUnavailable):
        await verifier.verify(pim.headers("token") | {"X-PIM-URL": url}, ADDRESS)


# "auth": "token-info", and where the client id stands


@pytest.mark.parametrize(
    ("pointer", "answer"),
    [
        ("/client_id", {"client_id": "erp"}),
        ("/connection/client_id", {"connection": {"client_id": "erp"}, "client_id": "shop"}),
        ("/clients/0/id", {"clients": [{"id": "erp"}]}),
        ("/a~1b", {"a/b": "erp"}),
        ("/0", ["erp"]),
    ],
)
async def test_the_client_id_is_read_where_the_pointer_says(pim: Pim, pointer: str, answer: Any) -> None:
    pim.answers(200, answer)
    verifier = pim.verifier(token_info_client_id=pointer)
    assert (await verifier.verify(pim.headers("token"), ADDRESS)).owner.client_id == "erp"


async def test_a_client_id_that_is_a_number_is_compared_as_text(pim: Pim) -> None:
    pim.answers(200, {"client_id": 17})
    assert (await pim.verifier().verify(pim.headers("token", "17"), ADDRESS)).owner.client_id == "17"


@pytest.mark.parametrize(
    ("answer", "keys"),
    [
        ({"owner": "value-of-owner", "app": {"id": "value-of-id"}}, ["app", "owner"]),
        ({f"{number:04}" + "x" * 200: 0 for number in range(300)}, [f"{n:04}" + "x" * 96 for n in range(20)]),
        ({}, []),
        (["value-of-item"], []),
        ("value-of-string", []),
        (7, []),
        (None, []),
        (b"<html>value-of-html</html>", []),
        (b"", []),
    ],
    ids=["keys", "many long keys", "{}", "array", "string", "number", "null", "html", "empty"],
)
async def test_a_client_id_that_is_missing_is_refused_and_its_keys_are_logged_never_values(
    pim: Pim, answer: Any, keys: list[str]
) -> None:
    pim.answers(200, answer)
    with capture_logs() as logs:
        await refused(pim.verifier(), pim.headers("the-token"))
    (line,) = logs
    assert (line["log_level"], line["keys_found"], line["pointer"]) == ("error", keys, "/client_id")
    assert line["tenant"] == pim.url
    assert "value-of" not in str(line)
    assert "the-token" not in str(line)


@pytest.mark.parametrize("found", [None, True, ["erp"], {"erp": "erp"}, 1.5], ids=str)
async def test_a_client_id_of_another_kind_is_refused(pim: Pim, found: Any) -> None:
    pim.answers(200, {"client_id": found})
    for client_id in ("erp", str(found), "True", "true", "null"):
        await refused(pim.verifier(), pim.headers("token", client_id))


@pytest.mark.parametrize(("status", "body"), [(404, None), (200, {})])
async def test_what_the_operator_is_told_of_a_pim_is_logged_once_a_minute(
    pim: Pim, status: int, body: Any
) -> None:
    pim.answers(status, body)
    verifier = pim.verifier()
    with capture_logs() as logs:
        for number in range(3):
            await refused(verifier, pim.headers(f"made up {number}"))
        await pim.clock.advance(61)
        await refused(verifier, pim.headers("made up again"))
    assert [line["times"] for line in logs] == [1, 3]


async def test_a_pim_without_the_route_is_refused_and_the_operator_told_what_to_set(pim: Pim) -> None:
    pim.answers(404)
    with capture_logs() as logs:
        await refused(pim.verifier(), pim.headers("the-token"))
    (line,) = logs
    assert line["tenant"] == pim.url
    assert "platform-key" in line["fix"]
    assert "the-token" not in str(line)


@pytest.mark.parametrize("status", [400, 401, 403, 410])
async def test_any_other_refusal_of_the_pim_is_ours_too(pim: Pim, status: int) -> None:
    pim.answers(status, {"client_id": "erp"})
    await refused(pim.verifier(), pim.headers("token"))


# "auth": "platform-key"

KEYS = {"erp": "the-key-of-the-erp", "shop": "the-key-of-the-shop"}


def keyed(pim: Pim) -> CallerVerifier:
    clients = [
        {"client_id": name, "key_sha256": hashlib.sha256(key.encode()).hexdigest()}
        for name, key in KEYS.items()
    ]
    return pim.verifier(auth="platform-key", clients=clients)


async def test_a_platform_key_proves_its_client_without_a_call(pim: Pim) -> None:
    for name, key in KEYS.items():
        caller = await keyed(pim).verify(pim.headers(key, name), ADDRESS)
        assert caller == Caller(Owner(pim.url, name), pim.url, may_subscribe=True)
    assert pim.all_calls() == 0


@pytest.mark.parametrize(
    ("key", "client_id"),
    [
        ("another-key", "erp"),
        (KEYS["shop"], "erp"),
        (KEYS["erp"], "unknown"),
        (KEYS["erp"][:-1], "erp"),
        (hashlib.sha256(KEYS["erp"].encode()).hexdigest(), "erp"),
        ("0" * 64, "unknown"),
        ("clé", "erp"),
    ],
)
async def test_a_wrong_platform_key_is_refused(pim: Pim, key: str, client_id: str) -> None:
    await refused(keyed(pim), pim.headers(key, client_id))
    assert pim.all_calls() == 0


async def test_a_platform_key_is_compared_in_constant_time_whoever_is_named(
    pim: Pim, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watching(one: Any, two: Any) -> bool:
        compared.append((len(one), len(two)))
        return real(one, two)

    monkeypatch.setattr(hmac, "compare_digest", watching)
    for key, client_id in [("wrong", "erp"), ("wrong", "unknown")]:
        await refused(keyed(pim), pim.headers(key, client_id))
    assert compared == [(64, 64), (64, 64)]


# "auth": "probe"

PROBE: dict[str, Any] = {"auth": "probe", "clients": [{"client_id": "erp"}]}


async def test_a_probe_is_one_call_with_the_token_for_60_seconds(pim: Pim) -> None:
    verifier, headers = pim.verifier(**PROBE), pim.headers(pim.token())
    await verifier.verify(headers, ADDRESS)
    await pim.clock.advance(59.9)
    await verifier.verify(headers, ADDRESS)
    assert (pim.calls(CHANNELS), pim.all_calls()) == (1, 1)
    await pim.clock.advance(0.1)
    await verifier.verify(headers, ADDRESS)
    assert (pim.calls(CHANNELS), pim.all_calls()) == (2, 2)


@pytest.mark.parametrize("status", [200, 403])
async def test_a_probe_that_lets_the_token_in_is_good(pim: Pim, status: int) -> None:
    pim.answers(status)
    assert (await pim.verifier(**PROBE).verify(pim.headers("token"), ADDRESS)).may_subscribe


@pytest.mark.parametrize("status", [401, 404, 400, 204, 422])
async def test_a_probe_that_answers_otherwise_is_refused_for_5_seconds(pim: Pim, status: int) -> None:
    pim.answers(status)
    verifier = pim.verifier(**PROBE)
    for _ in range(3):
        await refused(verifier, pim.headers("token"))
    assert pim.all_calls() == 1
    await pim.clock.advance(5)
    await refused(verifier, pim.headers("token"))
    assert pim.all_calls() == 2


async def test_a_probe_of_the_simulated_pim_refuses_a_made_up_token(pim: Pim) -> None:
    await refused(pim.verifier(**PROBE), pim.headers("made-up"))


async def test_a_client_that_is_not_listed_is_refused_without_a_call(pim: Pim) -> None:
    await refused(pim.verifier(**PROBE), pim.headers(pim.token(SHOP), "shop"))
    assert pim.all_calls() == 0


async def test_a_probe_of_a_pim_that_is_down_is_unavailable(pim: Pim) -> None:
    pim.answers(503)
    with pytest.raises(PimUnavailable):
        await pim.verifier(**PROBE).verify(pim.headers("token"), ADDRESS)


# Patterns of hosts

PATTERN = Tenant(host_pattern="*.cloud.example.com")
HOST = "team.cloud.example.com"


class Names:
    """Every name resolves to one address."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(self, host: str) -> list[str]:
        return [self.address]

    async def close(self) -> None:
        pass


class Listener:
    """Counts the connections that are opened to a port of 127.0.0.1."""

    async def __aenter__(self) -> "Listener":
        self.connections = 0
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def _connected(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


def private_gateway() -> HttpsPimGateway:
    def names() -> Names:
        return Names("127.0.0.1")

    return HttpsPimGateway(GuardedNetwork(make_resolver=names), TrustedNetwork(make_resolver=names))


async def test_a_pim_of_a_pattern_is_never_connected_to_at_a_private_address() -> None:
    gateway = private_gateway()
    async with Listener() as listener:
        url = f"https://{HOST}:{listener.port}"
        for base in (url, f"https://127.0.0.1:{listener.port}", f"https://localhost:{listener.port}"):
            with pytest.raises(PimUnavailable):
                await gateway.get(PATTERN, base, INFO, "token")
        assert listener.connections == 0
        with pytest.raises(PimUnavailable):  # there is no TLS behind it
            await gateway.get(Tenant(url=url), url, INFO, "token")
        assert listener.connections == 1, "the operator's own URL may be private, so this one connects"
    await gateway.close()


async def test_a_caller_from_a_pattern_whose_host_is_private_is_answered_unavailable() -> None:
    gateway = private_gateway()
    verifier = CallerVerifier(Registry(PATTERN), gateway, ManualClock())
    with pytest.raises(PimUnavailable):
        await verifier.verify(
            {"X-PIM-URL": f"https://{HOST}", "X-PIM-TOKEN": "token", "X-PIM-CLIENT-ID": "erp"}, ADDRESS
        )
    await gateway.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://cloud.example.com",
        "https://team.cloud.example.com:8443",
        "https://team.cloud.example.com/path",
        "http://team.cloud.example.com",
        "https://teamcloud.example.com",
        "https://team.cloud.example.com.evil.example",
        "https://evil.example/team.cloud.example.com",
        "https://evil.example#.cloud.example.com",
        "https://evil.example?.cloud.example.com",
        "https://user@team.cloud.example.com",
    ],
)
async def test_a_url_that_the_pattern_does_not_cover_is_refused(url: str) -> None:
    gateway = private_gateway()
    verifier = CallerVerifier(Registry(PATTERN), gateway, ManualClock())
    headers = {"X-PIM-URL": url, "X-PIM-TOKEN": "token", "X-PIM-CLIENT-ID": "erp"}
    assert "X-PIM-URL" in await refused(verifier, headers)
    await gateway.close()


async def test_an_exact_url_goes_before_the_pattern_that_covers_it_too() -> None:
    key = hashlib.sha256(b"the-key").hexdigest()
    exact = Tenant.model_validate(
        {
            "url": f"https://{HOST}",
            "auth": "platform-key",
            "clients": [{"client_id": "erp", "key_sha256": key}],
        }
    )
    gateway = private_gateway()
    verifier = CallerVerifier(Registry(exact, PATTERN), gateway, ManualClock())
    caller = await verifier.verify(
        {"X-PIM-URL": f"https://{HOST}/", "X-PIM-TOKEN": "the-key", "X-PIM-CLIENT-ID": "erp"}, ADDRESS
    )
    assert caller == Caller(Owner(f"https://{HOST}", "erp"), f"https://{HOST}/", may_subscribe=True)
    await gateway.close()


# Strangers


async def made_up(verifier: CallerVerifier, pim: Pim, times: int, address: str) -> Counter[str]:
    """What comes of so many tokens that nobody gave out."""
    results = await asyncio.gather(
        *(verifier.verify(pim.headers(f"{address} {number}"), address) for number in range(times)),
        return_exceptions=True,
    )
    return Counter(type(result).__name__ for result in results)


async def test_made_up_tokens_of_one_address_ask_the_pim_so_often_and_no_more(pim: Pim) -> None:
    verifier = pim.verifier()
    results = await made_up(verifier, pim, 200, ADDRESS)
    assert results == {"Unauthenticated": ADDRESS_BURST, "TooManyRequests": 200 - ADDRESS_BURST}
    assert pim.calls() == ADDRESS_BURST
    assert (await verifier.verify(pim.headers(pim.token()), "192.0.2.2")).may_subscribe


async def test_made_up_tokens_of_all_the_world_ask_the_pim_so_often_and_no_more(pim: Pim) -> None:
    verifier, headers = pim.verifier(), pim.headers(pim.token())
    await verifier.verify(headers, ADDRESS)
    for number in range(20):
        await made_up(verifier, pim, 20, f"203.0.113.{number}")
    assert pim.calls() == 1 + PIM_BURST
    await verifier.verify(headers, ADDRESS)
    await pim.clock.advance(60)
    await made_up(verifier, pim, 400, "203.0.113.99")
    asked = pim.calls()
    await verifier.verify(headers, ADDRESS)
    await verifier.verify(pim.headers(pim.token()), ADDRESS)
    assert pim.calls() == asked + 2


async def test_a_new_token_passes_though_others_at_its_address_are_wrong_too_often(pim: Pim) -> None:
    """All extensions of a PIM call through its own proxy."""
    verifier = pim.verifier()
    await verifier.verify(pim.headers(pim.token()), ADDRESS)
    results = await made_up(verifier, pim, 200, ADDRESS)
    assert results == {"Unauthenticated": 200}
    assert (await verifier.verify(pim.headers(pim.token()), ADDRESS)).may_subscribe


async def test_made_up_tokens_for_a_pim_that_is_down_count_too(pim: Pim) -> None:
    pim.answers(503)
    results = await made_up(pim.verifier(), pim, 100, ADDRESS)
    assert results == {"PimUnavailable": ADDRESS_BURST, "TooManyRequests": 100 - ADDRESS_BURST}


async def test_callers_with_many_good_tokens_at_one_address_are_not_held_up(pim: Pim) -> None:
    verifier = pim.verifier()
    for _ in range(2 * ADDRESS_BURST):
        await verifier.verify(pim.headers(pim.token()), ADDRESS)


async def test_wrong_platform_keys_are_bounded_and_hold_up_no_right_one(pim: Pim) -> None:
    verifier = keyed(pim)
    right = pim.headers(KEYS["erp"])
    await verifier.verify(right, ADDRESS)
    results = await made_up(verifier, pim, 100, ADDRESS)
    assert results == {"Unauthenticated": ADDRESS_BURST, "TooManyRequests": 100 - ADDRESS_BURST}
    await verifier.verify(right, ADDRESS)
