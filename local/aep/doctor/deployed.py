"""Checks of a running platform from outside, one line each as it is done, with a cure.

The test events are those of benchmarks: only the temporary subscriptions of the checks get them.
"""

import asyncio
import secrets
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import SecretStr

from event_platform import USER_AGENT
from event_platform.adapters.tls import client_context
from event_platform.domain.attempts import signatures
from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.subscriptions import Status
from event_platform.domain.words import counted

from ..runtime import unanswered
from . import release
from .credentials import Credentials
from .findings import Check, missing, ok, problem
from .release import StackOutputs

ARRIVAL_SECONDS = 60.0
AGAIN_SECONDS = 5.0
"""The seconds after which a test event is sent again: a new subscription may get nothing for its first 5
s.
"""
ASK_INBOX_SECONDS = 0.2
FEW_DAYS = 14
_ANSWER = aiohttp.ClientTimeout(total=30)
_NAME = "aep doctor"


@dataclass(frozen=True, slots=True)
class Receiver:
    """The place to which temporary subscriptions deliver: an `aep inbox` that the platform and this machine
    reach.

    `email` gets the mail about their deletion.
    """

    url: str
    email: str


class _Failed(Exception):
    """Raised when a check fails; the text says what to do."""


async def everything(
    url: str,
    known: Credentials,
    receiver: Receiver | None,
    *,
    retry_within: float,
    stack: StackOutputs | None = None,
) -> AsyncIterator[Check]:
    """Runs all checks of the platform whose management API is at the URL. `retry_within` is in seconds.

    With the outputs of a stack, the archive that each of its functions runs is compared with them.
    """
    url = url.rstrip("/")
    context = client_context()
    yield await _tls(url, context)
    connector = aiohttp.TCPConnector(ssl=context)
    ingest_url = known.ingest_url or (stack.ingest_url if stack is not None else f"{url}/ingest")
    headers = {"User-Agent": USER_AGENT}
    async with aiohttp.ClientSession(timeout=_ANSWER, connector=connector, headers=headers) as session:
        if stack is not None:
            async for check in release.checks(session, stack):
                yield check
        reachable = await _checked("manage", _health(session, url))
        yield reachable
        if reachable.state == "problem":
            return
        yield await _checked("openapi", _openapi(session, url))
        yield await _checked("strangers", _strangers(session, url))
        yield await _checked("ingest", _ingest(session, ingest_url, known.ingest_key))
        triple = known.triple()
        if triple is None:
            yield missing(
                "client", "set AEP_PIM_URL, AEP_PIM_CLIENT_ID and AEP_PIM_TOKEN to go on as a client"
            )
            return
        api = _Api(session, f"{url}/api/v1", triple)
        client = await _checked("client", _client(api))
        yield client
        if client.state == "problem":
            return
        if receiver is None:
            yield missing("an event", "name an `aep inbox` with --endpoint: nothing was sent through")
            return
        async for check in _through(api, receiver, retry_within):
            yield check


async def _checked(name: str, work: Awaitable[str]) -> Check:
    """Returns `ok` with the result of the work, or the problem that it raised."""
    try:
        return ok(name, await work)
    except _Failed as failure:
        return problem(name, str(failure))
    except (aiohttp.ClientError, TimeoutError) as error:
        return problem(name, f"no answer ({unanswered.why(error)}): look at the URL, the network, DNS")


async def _tls(url: str, context: ssl.SSLContext) -> Check:
    parts = urlsplit(url)
    if parts.scheme != "https":
        return missing("tls", "plain http: for development on this machine only")
    try:
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
            certificate = writer.get_extra_info("peercert")
            writer.close()
    except ssl.SSLCertVerificationError as error:
        return problem("tls", f"{error.verify_message}: a new domain's certificate takes up to an hour")
    except (OSError, TimeoutError) as error:
        return problem("tls", f"no connection ({unanswered.why(error)}): look at the URL, the network, DNS")
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
    if days < FEW_DAYS:
        return problem("tls", f"the certificate ends in {counted(round(days), 'day')}: have it renewed")
    return ok("tls", f"the certificate is good for {counted(round(days), 'day')}")


async def _health(session: aiohttp.ClientSession, url: str) -> str:
    started = time.monotonic()
    status, _ = await _ask(session, "GET", f"{url}/health")
    if status != 200:
        raise _Failed(f"{url}/health answered {status}: is this the management API's address?")
    return (
        f"healthy after {(time.monotonic() - started) * 1000:.0f} ms; a first answer has a cold start in it"
    )


async def _openapi(session: aiohttp.ClientSession, url: str) -> str:
    status, document = await _ask(session, "GET", f"{url}/openapi.json")
    if status != 200 or not isinstance(document, dict) or not document.get("paths"):
        raise _Failed(f"{url}/openapi.json answered {status}: is this the management API's address?")
    return f"{len(document['paths'])} paths described"


async def _strangers(session: aiohttp.ClientSession, url: str) -> str:
    status, _ = await _ask(session, "GET", f"{url}/api/v1/subscribers")
    if status != 401:
        raise _Failed(f"a call without credentials got {status} and not 401: see the log of manage")
    return "a call without credentials gets 401"


async def _ingest(session: aiohttp.ClientSession, url: str, key: SecretStr | None) -> str:
    """Sends a test event of a benchmark that nobody started, if there is a key: no subscription gets it."""
    event = {"id": str(uuid.uuid4()), "type": BENCHMARK, "data": catalog.load()[BENCHMARK].example}
    presented = key.get_secret_value() if key is not None else secrets.token_urlsafe(16)
    headers = {"Authorization": f"Bearer {presented}", "Content-Type": "application/cloudevents+json"}
    status, _ = await _ask(session, "POST", url, event, headers)
    if key is None:
        if status != 401:
            raise _Failed(
                f"{url} answered {status} to a wrong key and not 401: set AEP_INGEST_URL to its address"
            )
        return "a wrong key gets 401; with AEP_INGEST_KEY an event is sent"
    if status == 401:
        raise _Failed("AEP_INGEST_KEY is none of a PIM that is registered there")
    if status != 202:
        raise _Failed(
            f"{url} answered {status} and not 202: see its log; AEP_INGEST_URL may name another address"
        )
    return "an event is durable (202)"


async def _client(api: "_Api") -> str:
    return f"known, with {counted(len(await api.call('GET', '/subscribers', expect=200)), 'subscriber')}"


@dataclass(frozen=True, slots=True)
class _Api:
    """The management API as one client of a PIM."""

    session: aiohttp.ClientSession
    base: str
    identity: dict[str, str]

    async def call(self, method: str, path: str, body: Any = None, *, expect: int) -> Any:
        """Returns the JSON of the answer. Raises _Failed when the status is another one."""
        status, answer = await _ask(self.session, method, self.base + path, body, self.identity)
        if status != expect:
            errors = answer.get("errors") if isinstance(answer, dict) else None
            messages = "; ".join(str(each.get("message")) for each in errors or [])
            raise _Failed(f"{method} {path} answered {status}: {messages[:300]}")
        return answer


@dataclass(slots=True)
class _Inbox:
    """Reads the deliveries that an `aep inbox` got since the checks began."""

    session: aiohttp.ClientSession
    url: str
    last: int = 0

    async def read(self) -> Sequence[dict[str, Any]]:
        """Reads new deliveries. Raises _Failed when there is no `aep inbox`."""
        status, found = await _ask(self.session, "GET", f"{self.url}/_inbox/events?after={self.last}")
        if status != 200 or not isinstance(found, list):
            raise _Failed(f"{self.url} is no `aep inbox`: run one there, without --secret")
        if found:
            self.last = found[-1]["number"]
        return found


class _Temporary:
    """The temporary subscriptions of the checks, and the deliveries that came from them."""

    def __init__(self, api: _Api, inbox: _Inbox) -> None:
        self._api = api
        self._inbox = inbox
        self._received: list[dict[str, Any]] = []
        self.secret = secrets.token_urlsafe(32)
        self.paths: dict[str, str] = {}  # of the subscriptions in the API, by that of the inbox
        self.ids: dict[str, str] = {}

    async def subscribe(self, subscriber_id: str, path: str) -> None:
        """Makes a benchmark subscription to the path of the inbox."""
        collection = f"/subscribers/{subscriber_id}/subscriptions"
        config = {"url": self._inbox.url + path, "secret": {"primary": self.secret}}
        wanted = {"events": [BENCHMARK], "source": "benchmark", "type": "https", "config": config}
        created = await self._api.call("POST", collection, wanted, expect=201)
        self.ids[path], self.paths[path] = created["id"], f"{collection}/{created['id']}"

    async def received(self, path: str) -> list[dict[str, Any]]:
        """Returns the deliveries at a path so far, of its subscription alone."""
        self._received += await self._inbox.read()
        return [each for each in self._received if each["path"] == path and each["subject"] == self.ids[path]]

    async def notified(self, path: str) -> list[dict[str, Any]]:
        """Returns the notifications at a path that are about one of the subscriptions."""
        self._received += await self._inbox.read()
        ids = self.ids.values()
        return [
            each
            for each in self._received
            if each["path"] == path and any(one in each["body"] for one in ids)
        ]

    async def send_until_all_came(self, paths: Sequence[str]) -> None:
        """Sends test events for all subscriptions until each path got one. Raises _Failed."""
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while True:
            await self._api.call("POST", "/benchmark", {"type": BENCHMARK, "count": 1}, expect=202)
            if not (waiting := await self._that_get_nothing(paths, AGAIN_SECONDS)):
                return
            if time.monotonic() > deadline:
                raise _Failed(
                    f"nothing came at {', '.join(waiting)} within {ARRIVAL_SECONDS:.0f} s: see the logs of"
                    " fanout and deliver (403: rights of a new project take minutes to arrive)"
                )

    async def _that_get_nothing(self, paths: Sequence[str], seconds: float) -> list[str]:
        async def all_came() -> bool:
            return all([await self.received(path) for path in paths])

        await _until(all_came, seconds)
        return [path for path in paths if not await self.received(path)]


OK, FLAKY, GONE, NOTIFIED = "/ok", "/flaky", "/404", "/aep-doctor-notifications"


async def _through(api: _Api, receiver: Receiver, retry_within: float) -> AsyncIterator[Check]:
    """Checks a delivery to an endpoint, a retry, a suspension and its notification."""
    inbox = _Inbox(api.session, receiver.url.rstrip("/"))
    temporary = _Temporary(api, inbox)
    reached = await _checked("endpoint", _look_at(inbox))
    yield reached
    if reached.state == "problem":
        return
    try:
        async with _subscriber(api, receiver, temporary) as subscriber_id:
            for path in (OK, FLAKY, GONE):
                await temporary.subscribe(subscriber_id, path)
            tested = await _checked("test", _test(api, temporary))
            yield tested
            if tested.state == "problem":
                return
            arrived = await _checked("an event", _arrival(temporary))
            yield arrived
            if arrived.state == "problem":
                return
            suspended = await _checked("suspension", _suspension(api, temporary))
            yield suspended
            if suspended.state == "ok":
                yield await _checked("notification", _notification(temporary))
            yield await _checked("a retry", _retry(temporary, retry_within))
    except _Failed as failure:
        yield problem("subscriptions", str(failure))
    else:
        yield ok(
            "clean-up",
            f"the temporary subscriptions are deleted; {receiver.email} is told if there is a mail server",
        )


@asynccontextmanager
async def _subscriber(api: _Api, receiver: Receiver, temporary: _Temporary) -> AsyncIterator[str]:
    """Makes a subscriber for the block; deletes it with its subscriptions however the block ends."""
    contact = {
        "technical_email": receiver.email,
        "notification_channels": ["webhook"],
        "notification_webhook_url": receiver.url.rstrip("/") + NOTIFIED,
        "notification_webhook_secret": temporary.secret,
    }
    created = await api.call("POST", "/subscribers", {"name": _NAME, "contact": contact}, expect=201)
    try:
        yield created["id"]
    finally:
        await api.call("DELETE", f"/subscribers/{created['id']}", expect=200)


async def _look_at(inbox: _Inbox) -> str:
    await inbox.read()
    return f"an inbox answers at {inbox.url}"


async def _test(api: _Api, temporary: _Temporary) -> str:
    shown = await api.call("POST", f"{temporary.paths[OK]}/test", {}, expect=200)
    if shown["outcome"] != "delivered":
        detail = shown["detail"] or f"it answered {shown['status']}"
        raise _Failed(f"manage cannot post to {OK}: {detail[:200]}")
    return f"manage posts to the endpoint in {shown['milliseconds']:.0f} ms"


async def _arrival(temporary: _Temporary) -> str:
    started = time.monotonic()
    await temporary.send_until_all_came((OK, FLAKY, GONE))
    _check_signatures(await temporary.received(OK), temporary.secret)
    return f"by fanout and deliver to the endpoint in {time.monotonic() - started:.1f} s, its signature right"


async def _suspension(api: _Api, temporary: _Temporary) -> str:
    async def suspended() -> bool:
        row = await api.call("GET", temporary.paths[GONE], expect=200)
        return row["status"] == Status.SUSPENDED

    if not await _until(suspended, ARRIVAL_SECONDS):
        raise _Failed("a 404 did not suspend the subscription: see the log of deliver")
    return "a 404 suspends: the alert subscriptions-suspended fires now, see that it reaches you in 5 minutes"


async def _notification(temporary: _Temporary) -> str:
    async def came() -> list[dict[str, Any]]:
        return await temporary.notified(NOTIFIED)

    if not await _until(
        came, ARRIVAL_SECONDS + 120
    ):  # what could not be published, maintain does after 2 min
        raise _Failed("the webhook was not told of the suspension: see the log of notify")
    _check_signatures(await came(), temporary.secret)
    return "the webhook is told of the suspension, its signature right"


async def _retry(temporary: _Temporary, within: float) -> str:
    async def came() -> bool:
        return any(each["status"] == 200 for each in await temporary.received(FLAKY))

    started = time.monotonic()
    if not await _until(came, within):
        raise _Failed(f"a failed delivery did not come again within {within:.0f} s: see the log of maintain")
    return f"a failed delivery came again after {time.monotonic() - started:.0f} s more"


def _check_signatures(received: Sequence[dict[str, Any]], secret: str) -> None:
    name = signatures.PRIMARY_HEADER.lower()
    for each in received:
        if not signatures.verify(each["body"].encode(), secret, each["headers"].get(name, "")):
            raise _Failed(
                f"what came at {each['path']} has a wrong signature: something on the way changes bodies"
            )


async def _until(happened: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """Returns the result of `happened` once that is true, or the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        result = await happened()
        if result or time.monotonic() > deadline:
            return result
        await asyncio.sleep(ASK_INBOX_SECONDS)


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Returns status and JSON; None in place of the JSON if the body is none."""
    given = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers
    data = orjson.dumps(body) if body is not None else None
    async with session.request(method, url, data=data, headers=given, allow_redirects=False) as response:
        text = await response.read()
    try:
        return response.status, orjson.loads(text)
    except orjson.JSONDecodeError:
        return response.status, None
