"""Wrong requests to every route of management and ingest, byte for byte as they travel.

Each is answered with its status and says what is wrong, in the order of checks of contract/wire.md 2,
changes nothing in the store and leaves no error in the log. What a JSON body may hold is the matter of
test_order_of_checks.py, test_payloads.py and test_cloudevents.py; here is what HTTP adds, and hostile values.
"""

import asyncio
import re
import socket
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aep.serving import bounds
from aep.serving import server as serving
from event_platform.http import App
from support import one_pim
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM
from support.plain_words import check_words
from support.processes import Child, Client
from support.records import UPDATED

UUID = "00000000-0000-4000-8000-000000000001"
KIB = 1024
MIB = 1024 * KIB
JSON = ("Content-Type", "application/json")
STRUCTURED = ("Content-Type", "application/cloudevents+json")
BATCH = ("Content-Type", "application/cloudevents-batch+json")
BEARER = ("Authorization", f"Bearer {INGEST_KEY}")
IDENTITY = [("X-PIM-URL", PIM), ("X-PIM-TOKEN", CLIENT_KEY), ("X-PIM-CLIENT-ID", "erp")]
NOT_HTTP = "not a valid HTTP request"

Headers = Iterable[tuple[str, str | bytes]]

SUBSCRIBER: dict[str, Any] = {"name": "ERP", "contact": {"technical_email": "ops@example.com"}}
SUBSCRIPTION: dict[str, Any] = {
    "events": [UPDATED],
    "type": "https",
    "config": {
        "url": "http://127.0.0.1:4/hook",
        "secret": {"primary": "a-primary-secret-of-tests"},
        "headers": {"X-Stage": "test"},
    },
}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "event-1",
    "type": UPDATED,
    "data": {"product": {"uuid": UUID}, "author": {"identifier": "erp", "type": "api"}},
}


# A platform in which every change that is valid meets a limit or something deleted, and so is a 409


@dataclass(frozen=True)
class FullPim:
    serve: Child
    file: Path
    live: tuple[str, str]
    deleted: tuple[str, str]

    @property
    def port(self) -> int:
        return int(self.serve.url.rpartition(":")[2])

    def stored(self) -> dict[str, list[Any]]:
        """Returns the rows by table, but for log entries of what was refused, and when that was last."""
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            rows = {
                name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608 - of the schema
                for (name,) in tables
                if name != "last_calls"
            }
        return {
            name: [row for row in of_table if "request_refused" not in row] for name, of_table in rows.items()
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullPim]:
    folder = tmp_path_factory.mktemp("wrong-input")
    with one_pim.serve(folder) as serve:
        yield full(serve, folder / "data" / "aep.db")


def full(serve: Child, file: Path) -> FullPim:
    """As many subscribers, and subscriptions of one of them, as there may be."""
    client = Client(serve.url, PIM, CLIENT_KEY, "erp")

    def subscriber() -> str:
        return client.call("POST", "/subscribers", SUBSCRIBER, expect=201)["id"]

    def subscription(sid: str) -> str:
        return client.call("POST", f"/subscribers/{sid}/subscriptions", SUBSCRIPTION, expect=201)["id"]

    gone = subscriber()
    deleted = (gone, subscription(gone))
    client.call("DELETE", f"/subscribers/{gone}", expect=200)
    sids = [subscriber() for _ in range(20)]
    ids = [subscription(sids[0]) for _ in range(20)]
    return FullPim(serve, file, (sids[0], ids[0]), deleted)


@pytest.fixture(autouse=True)
def nothing_happens(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test sends: the store holds what it held and what was refused, no fault is logged."""
    if "world" not in request.fixturenames:
        yield
        return
    world: FullPim = request.getfixturevalue("world")
    before, logged = world.stored(), len(world.serve.stderr())
    yield
    assert exchange(world, message("GET", "/health")).status == 200
    assert world.stored() == before
    log = world.serve.stderr()[logged:]
    assert "Traceback" not in log, log
    assert '"severity":"ERROR"' not in log, log


# Bytes out, bytes in


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    def message(self) -> str:
        """What is said; the body is the contract's for errors, and not long."""
        assert self.headers["content-type"] == "application/json"
        assert len(self.raw) < 64 * KIB
        body = orjson.loads(self.raw)
        assert list(body) == ["errors"]
        assert all(error["message"] for error in body["errors"])
        said = " | ".join(error["message"] for error in body["errors"])
        check_words(said)
        return said


def message(method: str, path: str, headers: Headers = (), body: bytes | None = None) -> bytes:
    """A request as it travels; a body has its length declared."""
    length = [] if body is None else [("Content-Length", str(len(body)))]
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: platform"]
    for name, value in [*headers, *length]:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join([*lines, b"", body or b""])


@contextmanager
def connected(world: FullPim) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as connection:
        yield connection


def exchange(world: FullPim, *pieces: bytes, method: str = "GET") -> Answer:
    """The answer to these bytes, which may come before the last of them is sent."""
    with connected(world) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except ConnectionError:
            pass  # answered and closed already
        return read(connection, method)


def read(connection: socket.socket, method: str = "GET") -> Answer:
    response = HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def managed(
    world: FullPim, method: str, path: str, *, headers: Headers = (JSON,), body: bytes | None = None
) -> Answer:
    """A management call with credentials; `{sid}` and `{id}` in the path are what is live."""
    sid, id_ = world.live
    target = "/api/v1" + path.replace("{sid}", sid).replace("{id}", id_)
    return exchange(world, message(method, target, [*IDENTITY, *headers], body), method=method)


def sent_in(world: FullPim, body: bytes | None, *headers: tuple[str, str | bytes]) -> Answer:
    """A call of ingest with its key."""
    return exchange(world, message("POST", "/ingest", [BEARER, *headers], body))


OPERATIONS = [
    ("GET", "/subscribers"),
    ("POST", "/subscribers"),
    ("GET", "/subscribers/{sid}"),
    ("PATCH", "/subscribers/{sid}"),
    ("DELETE", "/subscribers/{sid}"),
    ("GET", "/subscribers/{sid}/subscriptions"),
    ("POST", "/subscribers/{sid}/subscriptions"),
    ("GET", "/subscribers/{sid}/subscriptions/{id}"),
    ("PATCH", "/subscribers/{sid}/subscriptions/{id}"),
    ("DELETE", "/subscribers/{sid}/subscriptions/{id}"),
    ("POST", "/subscribers/{sid}/subscriptions/{id}/suspend"),
    ("POST", "/subscribers/{sid}/subscriptions/{id}/resume"),
]
PATHS = list(dict.fromkeys(path for _, path in OPERATIONS))
WRITES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/subscribers"): SUBSCRIBER,
    ("PATCH", "/subscribers/{sid}"): SUBSCRIBER,
    ("POST", "/subscribers/{sid}/subscriptions"): SUBSCRIPTION,
    ("PATCH", "/subscribers/{sid}/subscriptions/{id}"): SUBSCRIPTION,
}


def short(value: object) -> str:
    """For the name of a case."""
    return re.sub(r"\W+", " ", str(value))[:40].strip() or "blank"


# Routes and methods


@pytest.mark.parametrize("path", [*(f"/api/v1{path}" for path in PATHS), "/ingest"])
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "SEARCH", "CONNECT"])
def test_a_method_of_http_that_is_not_served_is_405_before_all_else(
    world: FullPim, method: str, path: str
) -> None:
    answer = exchange(world, message(method, path, [], b"{"))
    assert (answer.status, answer.message()) == (405, f"{method} is not allowed here")
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/api/v1/subscribers/{sid}/subscriptions/{id}/suspend", "/ingest"])
def test_head_is_405_where_get_is(world: FullPim, path: str) -> None:
    answer = exchange(world, message("HEAD", path), method="HEAD")
    assert (answer.status, answer.raw, answer.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize("method", ["BREW", "get", "G\x00T", "", "GET GET"])
def test_a_method_that_http_does_not_know_is_400(world: FullPim, method: str) -> None:
    answer = exchange(world, message(method, "/api/v1/subscribers", IDENTITY))
    assert (answer.status, answer.message()) == (400, NOT_HTTP)


@pytest.mark.parametrize("path", ["/ingest/", "/ingest/x", "//ingest", "/Ingest", "/api/v1/ingest", "*"])
def test_an_unknown_route_is_404_before_all_else(world: FullPim, path: str) -> None:
    answer = exchange(world, message("POST", path, [], b"{"))
    assert answer.status == 404
    assert answer.message().startswith("no such route: /")


BAD_IDS = {
    "long": "a" * 16_000,
    "NUL": "%00",
    "control": "%0d%0aX-Injected:%201",
    "invalid UTF-8": "%ff%fe",
    "a surrogate": "%ed%a0%80",
    "an emoji": "%F0%9F%92%A9",
    "a bare percent": "%",
    "half an escape": "%4",
    "no escape": "%zz",
    "dots": "..",
    "escaped dots": "%2e%2e",
    "parameters": ";a=b",
    "a star": "*",
    "quotes": "'%22--",
    "upper case": "0190F3A0-0000-7000-8000-000000000001",
}


@pytest.mark.parametrize("kind", BAD_IDS)
@pytest.mark.parametrize(("method", "path"), [op for op in OPERATIONS if "{" in op[1]])
def test_an_id_that_nothing_has_is_404(world: FullPim, method: str, path: str, kind: str) -> None:
    body = orjson.dumps(WRITES[method, path]) if (method, path) in WRITES else None
    for name in ("{sid}", "{id}"):
        if name in path:
            answer = managed(world, method, path.replace(name, BAD_IDS[kind]), body=body)
            assert answer.status == 404, name
            assert answer.message().startswith(("subscriber ", "subscription "))


@pytest.mark.parametrize("id_", ["", "a/b", "a%2Fb", "a%2fb"], ids=["empty", "slash", "%2F", "%2f"])
@pytest.mark.parametrize(("method", "path"), [op for op in OPERATIONS if "{" in op[1]])
def test_an_id_that_makes_another_path_is_404(world: FullPim, method: str, path: str, id_: str) -> None:
    for name in ("{sid}", "{id}"):
        if name in path:
            answer = managed(world, method, path.replace(name, id_))
            assert answer.status == 404
            assert answer.message().startswith("no such route: /api/v1/subscribers/")


@pytest.mark.parametrize(
    "path", ["/subscribers/\xff", "/subscribers/a b", "/sub\x00scribers", "/\x7f", "/a\tb"]
)
def test_bytes_that_no_path_has_are_400(world: FullPim, path: str) -> None:
    target = f"/api/v1{path}".encode("latin-1")
    line = b"GET " + target + b" HTTP/1.1\r\n"
    answer = exchange(world, line + message("GET", "/", IDENTITY).partition(b"\r\n")[2])
    assert (answer.status, answer.message()) == (400, NOT_HTTP)


@pytest.mark.parametrize(
    "query",
    ["?", "?a=b&a=c", "?%ff=%00", "?=", "?&&&", "?[]=1", "?limit=-1", "?a=" + "b" * 20_000, "?%", "?a#b"],
    ids=short,
)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_query_says_nothing(world: FullPim, method: str, path: str, query: str) -> None:
    """Deleted resources and full collections answer as they do without one."""
    sid, id_ = world.deleted
    path = path.replace("{sid}", sid).replace("{id}", id_)
    body = orjson.dumps(SUBSCRIPTION | SUBSCRIBER) if method in ("POST", "PATCH") else None
    answers = [managed(world, method, path + extra, body=body) for extra in ("", query)]
    assert answers[0].status in (200, 409)
    assert [answers[1].status, answers[1].raw] == [answers[0].status, answers[0].raw]


# Credentials

BAD_CREDENTIALS: list[tuple[str, str | bytes, str]] = [
    ("X-PIM-URL", "pim.example.com", "X-PIM-URL must begin with https://"),
    ("X-PIM-URL", "ftp://pim.example.com", "X-PIM-URL must begin with https://"),
    ("X-PIM-URL", "https://", "X-PIM-URL must name a host"),
    ("X-PIM-URL", "https://pim.example.com:99999", "X-PIM-URL must have a port from 1 to 65535"),
    ("X-PIM-URL", "https://pim.example.com:0", "X-PIM-URL must have a port from 1 to 65535"),
    ("X-PIM-URL", "https://[::1", "X-PIM-URL must be a URL; an IPv6 address in it is written as ["),
    ("X-PIM-URL", "https://a:b@pim.example.com", "X-PIM-URL must not contain a user name"),
    ("X-PIM-URL", "https://pim.example.com\\@evil", "X-PIM-URL must be a URL of at most 2048 printable"),
    ("X-PIM-URL", "https://pim.example.com/?x=1", "X-PIM-URL must be the PIM's base URL, without query"),
    ("X-PIM-URL", "https://pim.example.com#x", "X-PIM-URL must be the PIM's base URL, without query"),
    ("X-PIM-URL", "https://p\xefm.example.com".encode("latin-1"), "X-PIM-URL must be a URL of at most"),
    ("X-PIM-URL", "https://пим.example.com", "X-PIM-URL must be a URL of at most"),
    ("X-PIM-URL", "https://pim.example.com\tx", "X-PIM-URL must have at most 2048 printable characters"),
    ("X-PIM-URL", f"{PIM}/" + "a" * 2048, "X-PIM-URL must have at most 2048 printable characters"),
    ("X-PIM-URL", f"{PIM}, {PIM}", "X-PIM-URL must be a URL of at most"),
    ("X-PIM-URL", "https://pim.example.com.", "X-PIM-URL names https://pim.example.com., a PIM"),
    ("X-PIM-URL", "https://pim.example.com/../", "X-PIM-URL names https://pim.example.com"),
    ("X-PIM-TOKEN", f"Bearer {CLIENT_KEY}", "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-TOKEN", CLIENT_KEY.upper(), "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-TOKEN", f"{CLIENT_KEY}, {CLIENT_KEY}", "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-TOKEN", bytes(range(0xA1, 0xAD)), "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-TOKEN", bytes(range(0x80, 0x100)), "X-PIM-TOKEN must have at most 4096 printable characters"),
    ("X-PIM-TOKEN", "a" * 4096, "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-TOKEN", "a" * 4097, "X-PIM-TOKEN must have at most 4096 printable characters"),
    ("X-PIM-TOKEN", "", "missing header: X-PIM-TOKEN"),
    ("X-PIM-CLIENT-ID", "ERP", "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-CLIENT-ID", "erp%20", "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-CLIENT-ID", b"\xff\xfe", "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-CLIENT-ID", "a" * 256, "X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID"),
    ("X-PIM-CLIENT-ID", "a" * 257, "X-PIM-CLIENT-ID must have at most 256 printable characters"),
    ("X-PIM-CLIENT-ID", " \t ", "missing header: X-PIM-CLIENT-ID"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_CREDENTIALS, ids=short)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_malformed_credential_is_401_before_the_body(
    world: FullPim, method: str, path: str, name: str, value: str | bytes, expected: str
) -> None:
    headers = {**dict(IDENTITY), name: value, "Content-Type": "text/plain"}
    answer = exchange(world, message(method, f"/api/v1{path}", headers.items(), b"{"))
    assert answer.status == 401
    assert answer.message().startswith(expected)
    assert CLIENT_KEY not in answer.message()


@pytest.mark.parametrize("given", [*combinations(IDENTITY, 2), *combinations(IDENTITY, 1), ()], ids=short)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_missing_credentials_are_all_named_before_the_body(
    world: FullPim, method: str, path: str, given: tuple[tuple[str, str], ...]
) -> None:
    headers = [*given, ("Content-Type", "text/plain")]
    answer = exchange(world, message(method, f"/api/v1{path}", headers, b"{"))
    missing = [name for name, _ in IDENTITY if name not in dict(given)]
    plural = "s" if len(missing) > 1 else ""
    assert (answer.status, answer.message()) == (401, f"missing header{plural}: {', '.join(missing)}")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        INGEST_KEY,
        f"Basic {INGEST_KEY}",
        f"Bearer{INGEST_KEY}",
        f"Bearer {INGEST_KEY}x",
        f"Bearer {INGEST_KEY} {INGEST_KEY}",
        f"Bearer {INGEST_KEY.upper()}",
        f"Bearer, Bearer {INGEST_KEY}",
        b"Bearer \xff\xfe",
        "Bearer \u20ac",
        "Bearer " + "a" * 20_000,
    ],
    ids=short,
)
@pytest.mark.parametrize(
    ("headers", "body"),
    [([STRUCTURED], b"x" * 6 * MIB), ([("Content-Type", "text/plain")], b"{"), ([BATCH], b"{")],
    ids=["too large", "no JSON type", "no JSON"],
)
def test_a_wrong_ingest_key_is_401_before_the_body(
    world: FullPim, value: str | bytes | None, headers: Headers, body: bytes
) -> None:
    named = [] if value is None else [("Authorization", value)]
    answer = exchange(world, message("POST", "/ingest", [*named, *headers], body))
    assert answer.status == 401
    assert "ingest key" in answer.message()
    assert INGEST_KEY not in answer.message()


# Size, media type, and what is no JSON


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("media_type", [JSON, ("Content-Type", "text/plain"), ("X-None", "")], ids=short)
def test_2_mib_are_413_whatever_they_are(
    world: FullPim, method: str, path: str, media_type: tuple[str, str]
) -> None:
    answer = managed(world, method, path, headers=[media_type], body=b"[" * 2 * MIB)
    assert (answer.status, answer.message()) == (413, "the body is larger than 256 KiB")


@pytest.mark.parametrize("media_type", [STRUCTURED, BATCH, JSON, ("Content-Type", "text/plain")], ids=short)
def test_6_mib_are_413_whatever_they_are(world: FullPim, media_type: tuple[str, str]) -> None:
    answer = sent_in(world, b"[" * 6 * MIB, media_type)
    assert (answer.status, answer.message()) == (413, "the body is larger than 5120 KiB")


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b"[" * 2 * MIB),
        (("Content-Type", "text/plain"), b"{}"),
        (("Content-Type", ""), b"\xff\xfe"),
        (JSON, b"{"),
        (JSON, b"9" * 5_000),
        (JSON, orjson.dumps({"status": "active", "name": 5, "config": []})),
    ],
    ids=["2 MiB", "no JSON type", "no UTF-8", "no JSON", "a huge number", "wrong types"],
)
@pytest.mark.parametrize(("method", "path"), [op for op in OPERATIONS if op not in WRITES])
def test_a_body_where_none_is_needed_says_nothing(
    world: FullPim, method: str, path: str, media_type: tuple[str, str], body: bytes
) -> None:
    """Deleted resources and full collections answer as they do without one; the next request is read."""
    sid, id_ = world.deleted
    path = path.replace("{sid}", sid).replace("{id}", id_)
    plain = managed(world, method, path)
    assert plain.status in (200, 409)
    with connected(world) as connection:
        for _ in range(2):
            headers = [*IDENTITY, media_type]
            connection.sendall(message(method, f"/api/v1{path}", headers, body))
            answer = read(connection, method)
            assert (answer.status, answer.raw) == (plain.status, plain.raw)


def chunked(size: int) -> Iterator[bytes]:
    """Pieces of 64 KiB in chunked coding, without an end."""
    for _ in range(size // (64 * KIB)):
        yield b"10000\r\n" + b" " * 64 * KIB + b"\r\n"


@pytest.mark.parametrize(
    ("method", "path", "headers", "size", "limit"),
    [
        *((method, f"/api/v1{path}", [*IDENTITY, JSON], 2 * MIB, 256) for method, path in WRITES),
        ("POST", "/ingest", [BEARER, BATCH], 6 * MIB, 5120),
    ],
)
def test_a_chunked_body_over_the_limit_is_413_before_its_end(
    world: FullPim, method: str, path: str, headers: Headers, size: int, limit: int
) -> None:
    head = message(method, path, [*headers, ("Transfer-Encoding", "chunked")])
    answer = exchange(world, head, *chunked(size))
    assert (answer.status, answer.message()) == (413, f"the body is larger than {limit} KiB")


MEDIA_TYPES: list[str | bytes] = [
    "",
    ";",
    "json",
    "*/*",
    "text/json",
    "application/json5",
    "application/jsonapplication/json",
    "application/json, text/plain",
    "application/ json",
    "application/vnd.api+json",
    "multipart/form-data; boundary=x",
    "x" * 10_000,
    b"application/json\xff",
]


@pytest.mark.parametrize("value", MEDIA_TYPES, ids=short)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_another_media_type_is_415(world: FullPim, method: str, path: str, value: str | bytes) -> None:
    answer = managed(world, method, path, headers=[("Content-Type", value)], body=b"{")
    assert (answer.status, answer.message()) == (415, "the body must be application/json")


@pytest.mark.parametrize("value", [*MEDIA_TYPES, "application/cloudevents"], ids=short)
def test_another_media_type_is_415_on_ingest(world: FullPim, value: str | bytes) -> None:
    answer = sent_in(world, b"{", ("Content-Type", value))
    assert answer.status == 415
    assert answer.message().startswith("the body must be application/json, application/cloudevents+json")


@pytest.mark.parametrize("headers", [[], [JSON], [("Content-Type", "text/plain")], [STRUCTURED]], ids=short)
@pytest.mark.parametrize("body", [None, b""], ids=["none", "of no length"])
def test_an_empty_body_is_400_whatever_its_type(world: FullPim, headers: Headers, body: bytes | None) -> None:
    for method, path in WRITES:
        answer = managed(world, method, path, headers=headers, body=body)
        assert (answer.status, answer.message()) == (400, "the body is empty; a JSON object is needed")
    answer = sent_in(world, body, *headers)
    assert (answer.status, answer.message()) == (400, "the body is empty; a CloudEvent is needed")


BAD_JSON: dict[str, tuple[bytes, str]] = {
    "cut off": (
        b'{"name": "a',
        "not JSON at line 1, column 10: the text in quotes that begins there has no end",
    ),
    "blank": (b" \r\n\t ", "not JSON at line 2, column 3: a value is expected there"),
    "more after it": (b"{} {}", "not JSON at line 1, column 4: the value ends before it"),
    "single quotes": (b"{'name': 'a'}", "not JSON at line 1, column 2: a name in double quotes"),
    "a comment": (b'{"name": "a"} // b', "not JSON at line 1, column 15: the value ends before it"),
    "a comma too many": (b'{"name": "a",}', "not JSON at line 1, column 1"),
    "a form": (b"name=a&contact=b", "not JSON at line 1, column 1: a value is expected there"),
    "NaN": (b'{"name": NaN}', "not JSON: "),
    "Infinity": (b'{"name": -Infinity}', "not JSON: "),
    "a raw NUL": (
        b'{"name": "a\x00b"}',
        "not JSON at line 1, column 12: line ends and other control characters",
    ),
    "a raw newline": (
        b'{"name": "a\nb"}',
        "not JSON at line 1, column 12: line ends and other control characters",
    ),
    "NULs": (b"\x00" * 1000, "not JSON at line 1, column 1: a value is expected there"),
    "a wrong escape": (
        b'{"name": "\\x41"}',
        "not JSON at line 1, column 11: in a text, a backslash is written as",
    ),
    "half an escape": (b'{"name": "\\u12"}', "not JSON at line 1, column 12: "),
    "Latin-1": ('{"name": "é"}'.encode("latin-1"), "not UTF-8 from byte 10 on"),
    "overlong UTF-8": (b'{"name": "\xc0\x80"}', "not UTF-8 from byte 10 on"),
    "surrogates in UTF-8": (b'{"name": "\xed\xa0\x80"}', "not UTF-8 from byte 10 on"),
    "UTF-16": ("\ufeff{}".encode("utf-16-le"), "not UTF-8 from byte 0 on"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON at line 1, column 1"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "not UTF-8 from byte 1 on"),
    "deep arrays": (b"[" * 4_000, "nested deeper than 200 levels"),
    "deep objects": (b'{"a":' * 4_000 + b"1" + b"}" * 4_000, "nested deeper than 200 levels"),
    "just too deep": (b"[" * 201 + b"]" * 201, "nested deeper than 200 levels"),
    "beyond 2^53": (b'{"name": 9007199254740992}', "the integer 9007199254740992, beyond"),
    "5,000 digits": (b'{"name": -' + b"9" * 5_000 + b"}", "the integer -999"),
    "250,000 digits": (b'{"name": ' + b"9" * 250_000 + b"}", "the integer 999"),
    "1e400": (b'{"name": 1e400}', "the number 1e400"),
    "a huge exponent": (b'{"name": -1e' + b"9" * 5_000 + b"}", "the number -1e999"),
}


@pytest.mark.parametrize("kind", BAD_JSON)
@pytest.mark.parametrize(("method", "path"), [*WRITES, ("POST", "/ingest")])
def test_what_is_no_json_that_we_take_is_400(world: FullPim, method: str, path: str, kind: str) -> None:
    body, expected = BAD_JSON[kind]
    if path == "/ingest":
        for media_type in (STRUCTURED, BATCH, JSON):
            answer = sent_in(world, body, media_type)
            assert answer.status == 400
            assert answer.message().startswith((f"the body is {expected}", f"the body holds {expected}"))
            assert len(answer.message()) < 300
        return
    answer = managed(world, method, path, body=body)
    assert answer.status == 400
    assert answer.message().startswith((f"the body is {expected}", f"the body holds {expected}"))
    assert len(answer.message()) < 300


TOO_LARGE = "the body is larger than 256 KiB"
TOO_MANY = "the body holds more than 5000 JSON values"
LARGE_BAD_JSON: dict[str, tuple[bytes, str, str]] = {
    "deep arrays": (b"[" * 500_000, "nested deeper than 200 levels", TOO_LARGE),
    "deep arrays in 256 KiB": (b"[" * 256 * KIB, "nested deeper than 200 levels", TOO_MANY),
    "5,001 arrays": (b"[" * 5_001, "nested deeper than 200 levels", TOO_MANY),
    "deep objects": (b'{"a":' * 100_000, "nested deeper than 200 levels", TOO_LARGE),
    "900,000 digits": (b'{"name": ' + b"9" * 900_000 + b"}", "the integer 999", TOO_LARGE),
}


@pytest.mark.parametrize("kind", LARGE_BAD_JSON)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_body_that_no_record_needs_is_413_before_it_is_read(
    world: FullPim, method: str, path: str, kind: str
) -> None:
    body, _, expected = LARGE_BAD_JSON[kind]
    answer = managed(world, method, path, body=body)
    assert (answer.status, answer.message()) == (413, expected)


@pytest.mark.parametrize("kind", LARGE_BAD_JSON)
def test_much_that_is_no_json_that_we_take_is_400_on_ingest(world: FullPim, kind: str) -> None:
    body, expected, _ = LARGE_BAD_JSON[kind]
    for media_type in (STRUCTURED, BATCH, JSON):
        answer = sent_in(world, body, media_type)
        assert answer.status == 400
        assert answer.message().startswith((f"the body is {expected}", f"the body holds {expected}"))
        assert len(answer.message()) < 300


LONE = "the body holds half of a surrogate pair, which is no character"


@pytest.mark.parametrize(
    "body",
    [b'{"name": "\\ud83d"}', b'{"name": "\\ude00\\ud83d"}', b'{"\\ud83d": 1}', b'{"a": [{"b": "\\udfff"}]}'],
)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_half_of_a_surrogate_pair_anywhere_is_400(
    world: FullPim, method: str, path: str, body: bytes
) -> None:
    answer = managed(world, method, path, body=body)
    assert (answer.status, answer.message()) == (400, LONE)


# Hostile values where something else is expected

STRINGS = {
    "NUL": "\x00",
    "a line break": "x\r\nX: 1",
    "an escape": "\x1b[31m",
    "a turn of direction": "\u202e",
    "a byte order mark": "\ufeff",
    "no character": "\uffff",
    "200 KB": "x" * 200_000,
    "50,000 emoji": "\U0001f4a9" * 50_000,
}
OTHERS: dict[str, Any] = {
    "a large integer": 2**53 - 1,
    "a large float": 1e308,
    "minus zero": -0.0,
    "true": True,
    "an array": [[[]]],
    "4,000 nulls": [None] * 4_000,
    "a deep array": eval("[" * 150 + "]" * 150),  # noqa: S307 - brackets
    "an object": {"__proto__": {"a": 1}, "": "", "$ref": "#"},
    "4,000 keys": {str(number): number for number in range(4_000)},
}
HOSTILE = STRINGS | OTHERS
TOO_MUCH: dict[str, tuple[Any, str]] = {
    "900 KB": ("x" * 900_000, TOO_LARGE),
    "100,000 emoji": ("\U0001f4a9" * 100_000, TOO_LARGE),
    "100,000 nulls": ([None] * 100_000, TOO_LARGE),
    "5,000 nulls": ([None] * 5_000, TOO_MANY),
    "5,000 keys": ({str(number): number for number in range(5_000)}, TOO_MANY),
}

# For each body: the fields, and what of the hostile values they take (all other values are refused).
NAMES = {"NUL", "a line break", "an escape", "a turn of direction", "a byte order mark", "no character"}
SUBSCRIBER_FIELDS: dict[str, set[str]] = {
    "name": NAMES,
    "contact": {"an object", "4,000 keys"},
    "contact.technical_email": set(),
    "contact.notification_channels": set(),
    "contact.notification_webhook_url": set(),
    "contact.notification_webhook_secret": set(),
}
SUBSCRIPTION_FIELDS: dict[str, set[str]] = {
    "source": set(),
    "subject": set(),
    "events": set(),
    "events.0": set(),
    "type": set(),
    "filter": set(),
    "config": set(),
    "config.url": set(),
    "config.secret": set(),
    "config.secret.primary": set(),
    "config.secret.secondary": set(),
    "config.headers": set(),
    "config.headers.X-Stage": set(),
    "send_product_identifier": {"true"},
    "options": {"an object", "4,000 keys"},
    "options.send_product_identifier_in_changes": {"true"},
}


def changed(body: dict[str, Any], path: str, value: Any) -> bytes:
    """The body with the value at the dotted path."""
    copy = orjson.loads(orjson.dumps(body))
    *parents, last = path.split(".")
    holder = copy
    for key in parents:
        holder = holder[int(key)] if isinstance(holder, list) else holder.setdefault(key, {})
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        holder[last] = value
    return orjson.dumps(copy)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        (method, path, SUBSCRIBER_FIELDS if body is SUBSCRIBER else SUBSCRIPTION_FIELDS)
        for (method, path), body in WRITES.items()
    ],
)
def test_a_hostile_value_is_refused_by_its_field(
    world: FullPim, method: str, path: str, fields: Mapping[str, set[str]], kind: str
) -> None:
    sid, id_ = world.deleted  # where what is valid is a 409
    target = path.replace("{sid}", sid).replace("{id}", id_)
    for field, taken in fields.items():
        needs_keys = method == "POST" and field == "contact"  # which a change does not
        expected = 409 if kind in taken and not needs_keys else 400
        body = changed(WRITES[method, path], field, HOSTILE[kind])
        answer = managed(world, method, target, body=body)
        assert answer.status == expected, (field, answer.raw[:300])
        if expected == 400:
            named = [error.get("field", "") for error in orjson.loads(answer.raw)["errors"]]
            assert any(name.startswith(field) for name in named), (field, named)
            assert len(answer.message()) < 20_000


@pytest.mark.parametrize("kind", TOO_MUCH)
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/subscribers", SUBSCRIBER_FIELDS),
        ("/subscribers/{sid}/subscriptions", SUBSCRIPTION_FIELDS),
    ],
)
def test_too_large_a_value_is_413_wherever_it_stands(
    world: FullPim, path: str, fields: Mapping[str, set[str]], kind: str
) -> None:
    value, expected = TOO_MUCH[kind]
    for field in fields:
        answer = managed(world, "POST", path, body=changed(WRITES["POST", path], field, value))
        assert (answer.status, answer.message()) == (413, expected), field


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_a_hostile_key_is_refused_or_ignored(world: FullPim, kind: str) -> None:
    """As a custom header's name it is refused; elsewhere unknown keys are."""
    sid, _ = world.deleted
    path, text = f"/subscribers/{sid}/subscriptions", STRINGS[kind]
    body = changed(SUBSCRIPTION, "config.headers", {text: "x"})
    answer = managed(world, "POST", path, body=body)
    assert answer.status == 400
    assert "the name must be 1 to 128 letters, digits and hyphens" in answer.message()
    assert managed(world, "POST", path, body=orjson.dumps(SUBSCRIPTION | {text: "x"})).status == 409


# What an ingest request may hold


def an_event(**attributes: Any) -> dict[str, Any]:
    return EVENT | attributes


def large(kib: int) -> dict[str, Any]:
    return an_event(data=EVENT["data"] | {"note": "x" * kib * KIB})


BAD_EVENTS: dict[str, tuple[Any, int, str]] = {
    "900 KiB and more": ([an_event(), large(900)], 413, "event 1 is larger than 900 KiB"),
    "five of 900 KiB and more": ([large(901)] * 5, 413, "event 0 is larger than 900 KiB"),
    "1,001": ([an_event()] * 1001, 413, "the request holds 1001 events; at most 1000 are taken"),
    "500,000 nothings": ([0] * 500_000, 413, "the request holds 500000 events"),
    # the order of checks: size, payload, permission
    "a large one after a wrong one": ([an_event(id=5), large(900)], 413, "event 1 is larger than 900 KiB"),
    "too many wrong ones": ([{}] * 1001, 413, "the request holds 1001 events"),
    "a wrong one after another PIM's": (
        [an_event(pimurl="https://other.example.com"), an_event(id="")],
        400,
        "[1].id: must be a string that is not empty",
    ),
    "a large one of another PIM": (
        [an_event(pimurl="https://other.example.com"), large(900)],
        413,
        "event 1 is larger than 900 KiB",
    ),
    "another PIM's": ([an_event(), an_event(pimurl="x")], 403, "pimurl names another PIM"),
    "1,000 wrong ones": ([{"id": 5}] * 1000, 400, "[0].id: must be a string that is not empty | [0].type"),
    "an unknown type with NUL": ([an_event(type=f"{UPDATED}\x00")], 400, "[0].type: unknown event type"),
    "a time with NUL": ([an_event(time="2026-01-31T12:00:00Z\x00")], 400, "[0].time: not an RFC 3339"),
    "a time of 900 KB": ([an_event(time="1" * 900_000)], 400, "[0].time: not an RFC 3339 date-time"),
    "an id of 900 KB": ([an_event(id="x" * 900_000)], 400, "[0].id: must have at most 256 characters"),
    "a type of 900 KB": ([an_event(type="x" * 900_000)], 400, "[0].type: unknown event type 'xxx"),
    "a day that is none": ([an_event(time="2026-02-30T12:00:00Z")], 400, "[0].time: not a date and time"),
    "year 0": ([an_event(time="0000-01-01T00:00:00Z")], 400, "[0].time: not a date and time"),
    "before year 1": ([an_event(time="0001-01-01T00:00:00+01:00")], 400, "[0].time: not a date and time"),
    "an object as time": ([an_event(time={"a": 1})], 400, "[0].time: not an RFC 3339 date-time"),
    "a UUID of 900 KB": (
        [an_event(data=EVENT["data"] | {"product": {"uuid": "0" * 900_000}})],
        400,
        "[0].data.product.uuid: ",
    ),
    "data as a number": ([an_event(data=1e308)], 400, "[0].data: must be an object"),
    "an object in an object's place": ({"a": an_event()}, 400, "the body must be an array of CloudEvents"),
}


@pytest.mark.parametrize("kind", BAD_EVENTS)
def test_events_are_refused_as_a_whole(world: FullPim, kind: str) -> None:
    events, status, expected = BAD_EVENTS[kind]
    answer = sent_in(world, orjson.dumps(events), BATCH)
    assert (answer.status, answer.raw[:300]) == (status, answer.raw[:300])
    shown = " | ".join(error["message"] for error in orjson.loads(answer.raw)["errors"])
    assert shown.startswith(expected)


@pytest.mark.parametrize(("items", "events"), [(450_000, 1), (900, 1_000)])
def test_900000_problems_are_answered_as_soon_as_a_few(world: FullPim, items: int, events: int) -> None:
    """Each event is named; who listed every problem of each would hold all others up for half a minute."""
    asset = {"code": "a", "asset_family": {"code": "b"}, "changes": {"values": {"x": [0] * items}}}
    data = {"asset": asset, "author": EVENT["data"]["author"]}
    wrong = an_event(type="com.akeneo.pim.v1.asset.updated.delta", data=data)
    body = orjson.dumps([wrong] * events)
    assert len(body) < 5 * MIB
    answer = sent_in(world, body, BATCH)
    assert answer.status == 400
    fields = [error["field"] for error in orjson.loads(answer.raw)["errors"]]
    assert {field.partition(".")[0] for field in fields} == {f"[{number}]" for number in range(events)}
    assert len(fields) < 10_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("ce-id", "a")], "type: is required"),
        ([("ce-id", ""), ("ce-type", UPDATED)], "id: must be a string that is not empty"),
        ([("ce-id", '""'), ("ce-type", UPDATED)], "id: must be a string that is not empty"),
        ([("ce-id", "x" * 257), ("ce-type", UPDATED)], "id: must have at most 256 characters"),
        ([("ce-id", "a"), ("ce-type", "x" * 20_000)], "type: unknown event type"),
        ([("ce-id", "a"), ("ce-type", UPDATED + "%00")], "type: unknown event type"),
        ([("ce-id", "a"), ("ce-type", b"\xff\xfe")], "type: unknown event type"),
        ([("ce-id", "a"), ("ce-type", UPDATED), ("ce-time", "%ff")], "time: not an RFC 3339"),
        ([("ce-id", "a"), ("ce-type", UPDATED), ("ce-time", "now")], "time: not an RFC 3339"),
        ([("ce-id", "a"), ("ce-type", UPDATED), ("ce-specversion", "2.0")], "specversion: must be '1.0'"),
        ([("ce-id", "a"), ("ce-type", UPDATED), ("ce-data_base64", "e30=")], "data_base64: is not taken"),
    ],
    ids=short,
)
def test_attributes_in_headers_are_checked_as_well(world: FullPim, headers: Headers, expected: str) -> None:
    answer = sent_in(world, orjson.dumps(EVENT["data"]), JSON, *headers)
    assert answer.status == 400
    assert answer.message().startswith(expected)


# What is not HTTP, or not HTTP that can be trusted

POST = message("POST", "/api/v1/subscribers", [*IDENTITY, JSON])[:-2]
GET = message("GET", "/api/v1/subscribers", IDENTITY)[:-2]


def refused(world: FullPim, *pieces: bytes) -> tuple[int, str]:
    """Status and message of an answer after which the connection is closed."""
    with connected(world) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        answer = read(connection)
        assert answer.headers["connection"] == "close"
        with suppress(ConnectionResetError):  # what was on its way there
            assert connection.recv(1) == b""
        return answer.status, answer.message()


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
        GET + b"X: a\x01b\r\n\r\n",
        GET + b"X\x00Y: a\r\n\r\n",
        GET + b"X-PIM-URL : a\r\n\r\n",
        GET + b" folded\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b"X: a\rX-Injected: 1\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2, 2\r\n\r\n{}",
        POST + b"Content-Length: -2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: 0x2\r\n\r\n{}",
        POST + b"Content-Length: two\r\n\r\n{}",
        POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    ],
    ids=short,
)
def test_what_is_not_http_is_400_and_the_end(world: FullPim, request_: bytes) -> None:
    assert refused(world, request_) == (400, NOT_HTTP)


TOO_LONG = (431, "at most 32 KiB and 100 lines of headers")
ENDLESS = [b"x" * 8 * KIB] * 100


@pytest.mark.parametrize("kib", [33, 60, 120, 400])
def test_headers_over_32_kib_are_431_though_they_come_at_once(world: FullPim, kib: int) -> None:
    assert refused(world, GET + b"X-Long: " + b"x" * kib * KIB + b"\r\n\r\n") == TOO_LONG
    many = b"".join(b"X-%d: %b\r\n" % (number, b"x" * KIB) for number in range(kib))
    assert refused(world, GET + many + b"\r\n") == TOO_LONG
    assert refused(world, message("GET", "/" + "x" * kib * KIB)) == TOO_LONG


def test_headers_without_an_end_are_431(world: FullPim) -> None:
    assert refused(world, GET + b"X-Long: ", *ENDLESS) == TOO_LONG
    assert refused(world, GET, *[b"X: x\r\n" * KIB] * 100) == TOO_LONG
    assert refused(world, b"GET /", *ENDLESS) == TOO_LONG
    assert refused(world, b"G", *ENDLESS) in [TOO_LONG, (400, NOT_HTTP)]


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"0\r\n", b"2;x=", b"0" * 10], ids=short)
def test_what_surrounds_a_body_is_bounded_as_well(world: FullPim, start: bytes) -> None:
    """Trailers and chunk extensions, which are no part of the body and so of its limit."""
    more = [b"X: x\r\n" * KIB] * 100 if start == b"0\r\n" else ENDLESS
    if start.startswith(b"00"):
        more = [b"0" * 8 * KIB] * 100
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    with connected(world) as connection:
        with suppress(ConnectionError):
            for piece in (head, start, *more, *more):
                connection.sendall(piece)
        assert read(connection).status in (400, 431)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_trailers_are_no_headers(world: FullPim) -> None:
    unknown = [(name, value) for name, value in IDENTITY if name != "X-PIM-TOKEN"]
    head = message("POST", "/api/v1/subscribers", [*unknown, JSON, ("Transfer-Encoding", "chunked")])
    answer = exchange(world, head + b"2\r\n{}\r\n0\r\nX-PIM-TOKEN: " + CLIENT_KEY.encode() + b"\r\n\r\n")
    assert (answer.status, answer.message()) == (401, "missing header: X-PIM-TOKEN")


def test_headers_of_just_32_kib_are_read(world: FullPim) -> None:
    room = 32 * KIB - len(GET) - len("X-Long: \r\n\r\n")
    answer = exchange(world, GET + b"X-Long: " + b"x" * room + b"\r\n\r\n")
    assert answer.status == 200


def test_every_request_of_a_connection_has_its_own_32_kib(world: FullPim) -> None:
    with connected(world) as connection:
        for _ in range(5):
            connection.sendall(GET + b"X-Long: " + b"x" * 30 * KIB + b"\r\n\r\n")
            assert read(connection).status == 200
            connection.sendall(POST + b"Content-Length: 250000\r\n\r\n" + b" " * 250_000)
            assert read(connection).status == 400


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2", "x"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(world: FullPim, protocol: str) -> None:
    """As Java's HTTP client asks with each first request, one with a body too (RFC 9110 7.8)."""
    upgrade = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", protocol),
        ("HTTP2-Settings", "AAMAAABk"),
    ]
    body = b'{"name": ""}'
    with connected(world) as connection:
        for _ in range(2):
            connection.sendall(message("POST", "/api/v1/subscribers", [*IDENTITY, JSON, *upgrade], body))
            answer = read(connection)
            assert (answer.status, answer.message().partition(" |")[0]) == (
                400,
                "name: must have 1 to 255 characters, not only blanks",
            )
            connection.sendall(message("GET", "/health", upgrade))
            assert read(connection).status == 200


def test_2000_requests_at_once_that_all_ask_for_another_protocol_are_answered(world: FullPim) -> None:
    asking = message("GET", "/health", [("Connection", "Upgrade"), ("Upgrade", "h2c")])
    with connected(world) as connection:
        connection.sendall(asking * 2000)
        received = bytearray()
        while received.count(b"HTTP/1.1 200 OK") < 2000:
            piece = connection.recv(64 * KIB)
            assert piece, received[-1000:]
            received += piece


# 100-continue (RFC 9110 10.1.1)


def expecting(path: str, headers: Headers, length: int) -> bytes:
    expect = [("Expect", "100-continue"), ("Content-Length", str(length))]
    return message("POST", path, [*headers, *expect])


@pytest.mark.parametrize(
    ("path", "headers"), [("/api/v1/subscribers", [*IDENTITY, JSON]), ("/ingest", [BEARER, STRUCTURED])]
)
def test_who_waits_is_told_to_go_on_once_the_credentials_are_good(
    world: FullPim, path: str, headers: Headers
) -> None:
    with connected(world) as connection:
        connection.sendall(expecting(path, headers, 2))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"[]")
        assert read(connection).status == 400


@pytest.mark.parametrize(
    ("path", "headers", "length", "status"),
    [
        ("/api/v1/subscribers", [JSON], 2, 401),
        ("/ingest", [STRUCTURED], 2, 401),
        ("/api/v1/subscribers", [*IDENTITY, JSON], 2 * MIB, 413),
        ("/ingest", [BEARER, STRUCTURED], 6 * MIB, 413),
        ("/nothing", [], 2, 404),
    ],
)
def test_who_waits_is_not_told_to_go_on_in_vain(
    world: FullPim, path: str, headers: Headers, length: int, status: int
) -> None:
    with connected(world) as connection:
        connection.sendall(expecting(path, headers, length))
        assert read(connection).status == status  # the first line that comes would be that of a 100


# Clients that go away, and clients that take their time


@pytest.mark.parametrize(
    ("path", "headers"), [("/api/v1/subscribers", [*IDENTITY, JSON]), ("/ingest", [BEARER, STRUCTURED])]
)
@pytest.mark.parametrize("how", ["closes", "resets", "half closes"])
def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_news(
    world: FullPim, path: str, headers: Headers, how: str
) -> None:
    for declared in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with connected(world) as connection:
            name, _, value = declared.partition(": ")
            connection.sendall(message("POST", path, [*headers, (name, value)]) + b'3e8\r\n{"name"')
            time.sleep(0.05)  # so that the body is being waited for
            if how == "resets":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "half closes":
                connection.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    assert connection.recv(1000) == b""
    time.sleep(0.1)
    # nothing_happens looks at the log and at the store


def test_200_clients_that_drip_their_headers_delay_no_other(world: FullPim) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(world)) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(20):
            for connection in slow:
                connection.sendall(b"x")
            assert managed(world, "GET", "/subscribers").status == 200
        for connection in slow:  # which wait all the same: nothing was answered, and none has ended
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


async def _body(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
async def impatient(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of a server with the platform's bounds, but in tenths of a second."""
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.6)
    app = App([Route("/", _body, methods=["POST"])])
    async with serving.running(app) as url:
        yield int(url.rpartition(":")[2])


async def dripped(port: int, start: bytes, drip: bytes) -> tuple[bytes, float]:
    """What is answered to bytes that come one by one after a start, and after how many seconds."""
    loop, received, started = asyncio.get_running_loop(), bytearray(), time.monotonic()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))

        async def send() -> None:
            with suppress(ConnectionError):
                await loop.sock_sendall(connection, start)
                while True:
                    await asyncio.sleep(0.02)
                    await loop.sock_sendall(connection, drip)

        sending = asyncio.create_task(send())
        try:
            with suppress(ConnectionResetError):  # as bytes went on to come after the answer
                while piece := await asyncio.wait_for(loop.sock_recv(connection, 64 * KIB), 5):
                    received += piece
            return bytes(received), time.monotonic() - started
        finally:
            sending.cancel()


LATE = b'{"errors":[{"message":"the request did not arrive in time"}]}'


@pytest.mark.parametrize(
    ("start", "drip", "seconds"),
    [
        (b"", b"", 0.3),
        (b"", b"\r\n", 0.3),
        (b"P", b"", 0.3),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX: ", b"x", 0.3),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", b"X: x\r\n", 0.3),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"x", 0.6),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"", 0.6),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.6),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n", 0.6),
    ],
    ids=short,
)
async def test_who_takes_too_long_is_408_and_the_end(
    impatient: int, caplog: pytest.LogCaptureFixture, start: bytes, drip: bytes, seconds: float
) -> None:
    answer, taken = await dripped(impatient, start, drip)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"connection: close" in head
    assert body == LATE
    assert seconds * 0.9 < taken
    assert [record for record in caplog.records if record.exc_info] == []


async def test_the_second_request_of_a_connection_is_as_late_as_the_first(impatient: int) -> None:
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    answer, taken = await dripped(impatient, first + b"POST / HTTP/1.1\r\nHost: x\r\nX: ", b"x")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(LATE)
    assert 0.25 < taken < 1.3
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    writer.write(first)
    await reader.readuntil(b"\r\n\r\n1")
    await asyncio.sleep(0.5)
    writer.write(b"P")
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(LATE)
    writer.close()


async def test_who_takes_its_time_between_requests_is_not_too_late(impatient: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(1) == b"1"
        await asyncio.sleep(1)
    writer.close()


async def test_a_head_after_a_body_that_was_slow_has_no_more_time_than_any(
    impatient: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "BODY_SECONDS", 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    await asyncio.sleep(0.4)  # longer than a head may take
    writer.write(b"x")
    assert (await reader.readuntil(b"\r\n\r\n1")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nX: ")
    assert (await asyncio.wait_for(reader.read(), 3)).endswith(LATE)
    writer.close()
