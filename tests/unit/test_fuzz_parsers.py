"""The smaller parsers of what strangers send, fed with anything: an answer, or a refusal as documented."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from event_platform.domain import front_door, mail_servers, urls
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.errors import InvalidRequest, Unauthenticated
from event_platform.domain.ingest_formats import events_api, relay
from event_platform.domain.messages.message import MalformedMessage
from event_platform.domain.pace import rates
from event_platform.domain.tenants import Tenant
from event_platform.http import only_once
from event_platform.ingest.credentials import digest_of
from event_platform.manage.identity import HEADERS, CallerVerifier
from event_platform.manage.payloads.body import Rules
from event_platform.manage.payloads.subscriptions import parse_subscription
from event_platform.push import pushed_of
from support.clock import START, ManualClock
from support.fuzzing import CASES, fuzzed

PIM = "https://pim.example.com"
RELAY_SECRETS = Tenant.model_validate({"url": PIM, "relay_secret": "the-relay-secret"}).relay_secret
RULES = Rules(PIM, allow_http=True, is_new=True)
PEM = """-----BEGIN CERTIFICATE-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA
-----END CERTIFICATE-----
"""

TEXTS = st.text(max_size=40)
LATIN = st.text(st.characters(max_codepoint=255), max_size=40)


def broken(*examples: str, alphabet: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[str]:
    """An example with something put into it, or cut out of it; or anything."""

    def cut(parts: tuple[str, int, int, str]) -> str:
        example, at, length, put = parts
        at %= len(example) + 1
        return example[:at] + put + example[at + length :]

    return alphabet | st.tuples(
        st.sampled_from(examples), st.integers(0, 300), st.integers(0, 12), alphabet
    ).map(cut)


ENVELOPE = {
    "message": {
        "data": "e30=",
        "attributes": {"a": "b"},
        "messageId": "1",
        "publishTime": "2026-01-31T12:00:00Z",
        "orderingKey": "k",
    },
    "subscription": "projects/p/subscriptions/s",
    "deliveryAttempt": 5,
}
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just({}) | st.just([])


@st.composite
def an_envelope(draw: Callable[[Any], Any]) -> bytes:
    value = json.loads(json.dumps(ENVELOPE))
    for _ in range(draw(st.integers(0, 3))):
        part = draw(st.sampled_from([value, value.get("message", value)]))
        if isinstance(part, dict) and part:
            part[draw(st.sampled_from([*part, "other"]))] = draw(VALUES)
    body = json.dumps(value).encode()
    at = draw(st.integers(0, len(body)))
    return body if draw(st.booleans()) else body[:at] + draw(st.binary(max_size=4)) + body[at + 2 :]


URLS = broken(
    "https://user:password@[2001:db8::1%25eth0]:8443/a/../b?c=d#e",
    "https://höst.example./hook",
    "http://0x7f.1:80/",
    "https://xn--hst-sna.example:65535/%ff",
)
IDENTITY = st.tuples(
    URLS | LATIN,
    broken("Bearer a-token", alphabet=LATIN),
    broken("erp", "2_1x8s", alphabet=LATIN),
)


def refusing(*expected: type[Exception]) -> Callable[[Callable[[Any], Any]], Callable[[Any], None]]:
    """The parser, whose documented refusals are an answer too."""

    def of(parse: Callable[[Any], Any]) -> Callable[[Any], None]:
        def take(value: Any) -> None:
            with contextlib.suppress(*expected):
                parse(value)

        return take

    return of


def idempotent(normalise: Callable[..., str]) -> Callable[[str], None]:
    def take(text: str) -> None:
        once = normalise(text, allow_http=True)
        assert normalise(once, allow_http=True) == once
        urls.host_and_port(once)

    return take


def by_identity(triple: tuple[str, str, str]) -> None:
    """Over the registry of a PIM with platform keys, of which none fits."""
    raw = [
        (name.lower().encode(), value.encode("latin-1", "replace"))
        for name, value in zip(HEADERS, triple, strict=True)
    ]
    headers = Headers(raw=[*raw, *raw])
    only_once(headers, *HEADERS)
    coroutine = CallerVerifier(OnePim(), NoPim(), ManualClock()).verify(headers, "192.0.2.1")
    with pytest.raises((Unauthenticated, StopIteration)):
        coroutine.send(None)


class OnePim:
    async def tenants(self) -> tuple[Tenant, ...]:
        return (Tenant(url=PIM, auth="platform-key"),)


class NoPim:
    async def get(self, tenant: Tenant, pim_url: str, path: str, token: str) -> Answer:
        raise AssertionError("nobody is to be asked")


def by_signature_headers(both: tuple[str, str]) -> None:
    headers = Headers(
        raw=[
            (events_api.SIGNATURE_HEADER.lower().encode(), both[0].encode("latin-1")),
            (events_api.TIMESTAMP_HEADER.lower().encode(), both[1].encode("latin-1")),
        ]
    )
    events_api.call_of(headers, START).check(b"{}", ())


def by_config(part: dict[str, Any]) -> None:
    body = {"events": [], "type": "https", "config": {"url": "https://x.example", **part}}
    parse_subscription(body, rules=RULES)


def by_kafka(pems: tuple[str, str, str]) -> None:
    ca, certificate, key = pems
    tls = {"ca_pem": ca, "client_cert_pem": certificate, "client_key_pem": key, "verify_hostname": True}
    config = {"broker": "b.example:9092", "topic": "t", "tls": tls}
    parse_subscription({"events": [], "type": "kafka", "config": config}, rules=RULES)


PEMS = broken(PEM, PEM.replace("CERTIFICATE", "PRIVATE KEY"), PEM * 2)
HEADER_NAMES = broken("X-Api-Key", "Content-Length", "X-AKENEO-SIGNATURE-PRIMARY")
PARSERS = {
    "push-envelope": (an_envelope() | st.binary(), refusing(MalformedMessage)(pushed_of)),
    "retry-after": (
        broken("120", "Wed, 21 Oct 2026 07:28:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", alphabet=LATIN),
        lambda value: rates.retry_after(value, START),
    ),
    "endpoint-url": (URLS, refusing(ValueError)(idempotent(urls.normalise_endpoint_url))),
    "pim-url": (URLS, refusing(ValueError)(idempotent(urls.normalise_pim_url))),
    "identity": (IDENTITY, by_identity),
    "authorization": (
        broken("Bearer key", "Basic a:b", alphabet=LATIN),
        refusing(Unauthenticated)(digest_of),
    ),
    "signature-headers": (
        st.tuples(broken("ab" * 32, alphabet=LATIN), broken("1769860800", "-1", "1e9", alphabet=LATIN)),
        refusing(Unauthenticated)(by_signature_headers),
    ),
    "relay-signature": (
        broken("ab" * 32, alphabet=LATIN),
        refusing(Unauthenticated)(
            lambda text: relay.check(
                relay.signatures_of({"X-AKENEO-SIGNATURE-PRIMARY": text}), b"{}", RELAY_SECRETS
            )
        ),
    ),
    "forwarded-for": (
        broken("192.0.2.1, 2001:db8::1, ::ffff:192.0.2.9", "fe80::1%eth0", alphabet=LATIN),
        lambda text: front_door.site_of(front_door.client_of(text, text, 2)),
    ),
    "custom-headers": (
        st.dictionaries(HEADER_NAMES, TEXTS | VALUES, max_size=4).map(lambda headers: {"headers": headers}),
        refusing(InvalidRequest)(by_config),
    ),
    "secrets": (
        st.fixed_dictionaries({"primary": TEXTS | VALUES, "secondary": TEXTS | VALUES}).map(
            lambda secret: {"secret": secret}
        ),
        refusing(InvalidRequest)(by_config),
    ),
    "pem": (st.tuples(PEMS, PEMS, PEMS), refusing(InvalidRequest)(by_kafka)),
    "smtp-url": (
        broken("smtps://events%40example.com:pass%2Fword@[::1]:465/"),
        refusing(ValueError)(lambda url: mail_servers.mail_server_of(url, "")),
    ),
}


@pytest.mark.timeout(120 + CASES)
@pytest.mark.parametrize("name", PARSERS)
def test_whatever_comes_is_read_or_refused_as_it_says(name: str) -> None:
    values, parse = PARSERS[name]

    @fuzzed()
    @given(values)
    def each(value: Any) -> None:
        parse(value)

    each()
