"""The attackers of the full sizes: a process for each, as the bench has its own (`bench/workers.py`).

The order: {attack, …} with what the attack needs. It says "under way", attacks until it hears a word, and
says what it came to: {"sent": a text for the table, …}. It runs at the lowest priority, so that on a machine
of few cores the platform is measured and not the attacker.
"""

import contextlib
import http.client
import itertools
import os
import random
import socket
import struct
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import orjson
from bench.workers import hear, say

UPDATED = "com.akeneo.pim.v1.product.updated"
SOURCES = [f"127.0.0.{number}" for number in range(66, 74)]
"""The addresses of attackers: an address counts as one client, and the PIM beside has another one."""
KIB = 1024
Order = dict[str, Any]
Attack = Callable[[Order, threading.Event], "str | dict[str, Any]"]

ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Registers an attack by its name; it returns what it sent in a few words, alone or as `sent`."""
    ATTACKS[function.__name__] = function
    return function


# --- requests ---


class Caller:
    """One connection to the platform, made again when it was closed; counts the statuses."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._address = (target.hostname or "", target.port or 80)
        self._connection: http.client.HTTPConnection | None = None
        self.statuses: Counter[int] = Counter()

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
        """The status; 0 when no answer came."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                *self._address, timeout=300, source_address=(SOURCES[0], 0)
            )
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            answer.read()
            status, is_over = answer.status, answer.will_close
        except (OSError, http.client.HTTPException):
            status, is_over = 0, True
        if is_over:
            self._connection.close()
            self._connection = None
        self.statuses[status] += 1
        return status

    def told(self) -> str:
        found = sorted(self.statuses.items())
        return " ".join(f"{number}×{status or 'none'}" for status, number in found)


def manage(order: Order, calls: Iterator[tuple[str, str, bytes]], stop: threading.Event) -> str:
    """Calls the management API as fast as one client can."""
    caller = Caller(order["url"])
    for method, path, body in calls:
        if stop.is_set():
            break
        caller.call(method, f"/api/v1{path}", order["identity"] | {"Content-Type": "application/json"}, body)
    return caller.told()


def publish(order: Order, events: list[dict[str, Any]]) -> int:
    """Sends a batch of events of the attacker's PIM; the status."""
    headers = {
        "Authorization": f"Bearer {order['ingest_key']}",
        "Content-Type": "application/cloudevents-batch+json",
    }
    return Caller(order["url"]).call("POST", "/ingest", headers, orjson.dumps(events))


def event(size: int = 0) -> dict[str, Any]:
    author = {"identifier": "mallory", "type": "user"}
    data = {"product": {"uuid": str(uuid.uuid4())}, "author": author, "pad": "x" * size}
    return {"id": str(uuid.uuid4()), "type": UPDATED, "data": data}


def publish_paced(order: Order, stop: threading.Event, *, rate: float, size: int = 0) -> str:
    """Sends events one by one, `rate` a second."""
    number = 0
    while not stop.wait(1 / rate):
        publish(order, [event(size)])
        number += 1
    return f"{number} events"


# --- A: work on others' input ---


@attack
def bodies(order: Order, stop: threading.Event) -> str:
    """POSTs the given bodies to a path of management, in turn."""
    endless = itertools.cycle(order["bodies"])
    return manage(order, ((*each[:2], orjson.dumps(each[2])) for each in endless), stop)


@attack
def combining_characters(order: Order, stop: threading.Event) -> str:
    text = "a" + "\u0315" * (order["bytes"] // 4) + "\u0300" * (order["bytes"] // 4)
    contact = {"technical_email": "ops@example.com"}
    secret = {"primary": "a-primary-secret-of-an-attacker"}
    fields: list[dict[str, Any]] = [
        {"name": "x", "contact": contact | {"technical_email": f"{text}@example.com"}},
        {"name": "x", "contact": contact | {"notification_webhook_url": f"https://{text}/"}},
    ]
    config = {"url": f"https://{text}/", "secret": secret}
    subscription = {"events": [UPDATED], "type": "https", "config": config}
    calls = [("POST", "/subscribers", orjson.dumps(body)) for body in fields]
    calls.append(("POST", f"/subscribers/{order['subscriber']}/subscriptions", orjson.dumps(subscription)))
    return manage(order, itertools.cycle(calls), stop)


@attack
def long_answers(order: Order, stop: threading.Event) -> str:
    """A receiver that answers each request in many small pieces of syntax."""
    head = b"HTTP/1.1 200 OK\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    answers = {
        "headers": head + b"a:\r\n" * (50 * KIB // 4) + b"Content-Length: 0\r\n\r\n",
        "chunks": chunked + b"1\r\na\r\n" * (576 * KIB // 6) + b"0\r\n\r\n",
        "trailers": chunked + b"0\r\n" + b"a:\r\n" * (576 * KIB // 4) + b"\r\n",
    }
    serve(order["port"], lambda peer: answer_each(peer, answers[order["kind"]]))
    return publish_paced(order, stop, rate=order["rate"])


@attack
def many_topics(order: Order, stop: threading.Event) -> str:
    """A Kafka broker whose metadata names very many topics."""
    serve(order["port"], lambda peer: kafka_broker(peer, order["port"], order["topics"]))
    return publish_paced(order, stop, rate=order["rate"])


@attack
def large_batches(order: Order, stop: threading.Event) -> str:
    """Requests of 1,000 events each, one after the other, for as many subscriptions as there are."""
    number = 0
    while number < order["requests"] and not stop.is_set():
        publish(order, [event() for _ in range(1000)])
        number += 1
        stop.wait(order["pause"])
    stop.wait()
    return f"{number} × 1,000 events"


@attack
def raw_bodies(order: Order, stop: threading.Event) -> str:
    """The same request `rate` times a second at most, on one connection each time."""
    request = order["head"].encode() + order["piece"].encode() * order["times"] + order["end"].encode()
    began = time.monotonic()
    for number in itertools.count(1):
        exchange(order, request)
        if stop.wait(max(0.0, began + number / order["rate"] - time.monotonic())):
            return f"{number} × {len(request) / 1e6:.1f} MB"
    raise AssertionError


@attack
def scrapes(order: Order, stop: threading.Event) -> str:
    """GETs of one path, `rate` a second from one connection."""
    caller = Caller(order["url"])
    began = time.monotonic()
    for number in itertools.count(1):
        caller.call("GET", order["path"], {})
        if stop.wait(max(0.0, began + number / order["rate"] - time.monotonic())):
            return caller.told()
    raise AssertionError


# --- B: connections and bytes ---


@attack
def pipelines(order: Order, stop: threading.Event) -> str:
    """Connections that send thousands of requests and never read an answer."""
    request = f"GET {order['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    opened = [connect(order) for _ in range(order["connections"])]
    sent = 0
    for connection in opened:
        connection.setblocking(False)
    rest = {connection: request * (order["bytes"] // len(request)) for connection in opened}
    while not stop.wait(0.05):
        for connection, left in list(rest.items()):
            try:
                written = connection.send(left[: 64 * KIB])
            except BlockingIOError:
                continue
            except OSError:
                del rest[connection]
                continue
            sent += written
            rest[connection] = left[written:]
            if not rest[connection]:
                del rest[connection]
    return f"{len(opened)} conns {sent / 1e6:.1f} MB"


@attack
def unread_answers(order: Order, stop: threading.Event) -> str:
    """As many connections as there are places, each with a few requests whose answers are never read."""
    request = f"GET {order['path']} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * order["requests"]
    opened: list[socket.socket] = []
    while not stop.wait(0.001) and len(opened) < order["connections"]:
        try:
            opened.append(connect(order, SOURCES[len(opened) % len(SOURCES)]))
            opened[-1].sendall(request)
        except OSError:
            continue
    stop.wait()
    return f"{len(opened)} conns"


@attack
def made_up_signatures(order: Order, stop: threading.Event) -> str:
    """Webhooks with the same made-up signature, each but for its last byte, at once."""
    size = order["bytes"]
    head = (
        f"POST /ingest/events-api/{order['key']} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"X-Akeneo-Request-Signature: {'a' * 64}\r\nX-Akeneo-Request-Timestamp: {int(time.time())}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()
    sent = 0

    def one(_: int) -> None:
        nonlocal sent
        with connect(order) as connection:
            connection.settimeout(60)
            try:
                connection.sendall(head)
                for _ in range(size // (64 * KIB)):
                    connection.sendall(b"x" * 64 * KIB)
                    sent += 64 * KIB
                    if stop.is_set():
                        return
                stop.wait()
            except OSError:
                return

    with ThreadPoolExecutor(order["connections"]) as pool:
        list(pool.map(one, range(order["connections"])))
    return f"{order['connections']} conns {sent / 1e6:.0f} MB"


@attack
def receiver_that_does_not_read(order: Order, stop: threading.Event) -> str:
    """Large events to a receiver that takes connections and nothing else."""
    serve(order["port"], lambda peer: stop.wait(), small_buffers=True)
    for _ in range(order["events"]):
        publish(order, [event(order["bytes"])])
    stop.wait()
    return f"{order['events']} × {order['bytes'] / 1e3:.0f} KB"


@attack
def receiver_that_does_not_accept(order: Order, stop: threading.Event) -> str:
    """Events to a port whose backlog is full: each attempt waits for its connection until it gives up."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", order["port"]))
        listener.listen(0)
        fill = [socket.socket() for _ in range(8)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", order["port"]))
        return publish_paced(order, stop, rate=order["rate"])


# --- C: good credentials ---


@attack
def distinct_refusals(order: Order, stop: threading.Event) -> str:
    def calls() -> Iterator[tuple[str, str, bytes]]:
        for number in itertools.count():
            body = {"events": [f"unknown-{number}-{'x' * 100}-{index}" for index in range(40)]}
            yield "PATCH", order["path"], orjson.dumps(body | {"name": "x" * 900})

    return manage(order, calls(), stop)


@attack
def suspend_and_resume(order: Order, stop: threading.Event) -> str:
    paths = (f"{order['path']}/suspend", f"{order['path']}/resume")
    return manage(order, (("POST", path, b"") for path in itertools.cycle(paths)), stop)


@attack
def benchmarks(order: Order, stop: threading.Event) -> str:
    body = orjson.dumps({"type": "com.akeneo.benchmark.v1.test", "count": order["count"], "size": 10})
    return manage(order, itertools.repeat(("POST", "/benchmark", body)), stop)


# --- D: what tenants share ---


@attack
def dead_hosts(order: Order, stop: threading.Event) -> str:
    """Events for subscriptions at hosts that refuse connections."""
    return publish_paced(order, stop, rate=order["rate"])


@attack
def shared_origin(order: Order, stop: threading.Event) -> dict[str, Any]:
    """One origin for two owners: on how many connections requests of both came."""
    seen: dict[int, set[str]] = {}

    def play(peer: socket.socket) -> None:
        reader = peer.makefile("rb")
        paths = seen[id(reader)] = set[str]()
        while path := read_request(reader)[0]:
            paths.add(path)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    serve(order["port"], play)
    sent = publish_paced(order, stop, rate=order["rate"])
    return {"sent": sent, "shared": sum(len(paths) > 1 for paths in seen.values())}


@attack
def dies_on_one_event(order: Order, stop: threading.Event) -> dict[str, Any]:
    """A receiver with many kept connections that closes each one on which the one event comes."""
    came = 0

    def play(peer: socket.socket) -> None:
        nonlocal came
        reader = peer.makefile("rb")
        while (request := read_request(reader))[0]:
            if b"product.deleted" in request[1]:
                came += 1
                return
            time.sleep(0.3)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    serve(order["port"], play)
    publish(order, [event() for _ in range(64)])
    stop.wait(4)
    publish(order, [event() | {"type": "com.akeneo.pim.v1.product.deleted"}])
    stop.wait()
    return {"sent": "65 events", "came": came}


# --- sockets ---


def connect(order: Order, source: str = SOURCES[0]) -> socket.socket:
    target = urlsplit(order["url"])
    opened = socket.socket()
    opened.bind((source, 0))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.settimeout(10)
    opened.connect((target.hostname, target.port))
    return opened


def exchange(order: Order, request: bytes) -> None:
    """Sends it, and reads until an answer begins or the connection ends."""
    target = urlsplit(order["url"])
    address = (target.hostname, target.port)
    source = (SOURCES[0], 0)
    with contextlib.suppress(OSError), socket.create_connection(address, 300, source) as connection:
        connection.sendall(request)
        connection.recv(4096)


def serve(port: int, play: Callable[[socket.socket], Any], *, small_buffers: bool = False) -> None:
    """Listens, and plays with each peer in a thread of its own, until the process ends."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    if small_buffers:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def one(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError, struct.error, EOFError):
            play(peer)

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def read_request(reader: BinaryIO) -> tuple[str, bytes]:
    """Path and body of the next request; an empty path at the end."""
    line, length = reader.readline(), 0
    path = line.split(b" ")[1].decode() if line else ""
    while line not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
        line = reader.readline()
    return path, reader.read(length)


def answer_each(peer: socket.socket, answer: bytes) -> None:
    """The same answer to every request."""
    reader = peer.makefile("rb")
    while read_request(reader)[0]:
        peer.sendall(answer)


def kafka_broker(peer: socket.socket, port: int, topics: int) -> None:
    """Takes any password, and names `topics` topics that nobody asked for."""

    def text(value: str) -> bytes:
        return struct.pack(">h", len(value)) + value.encode()

    reader = peer.makefile("rb")
    broker = struct.pack(">i", 0) + text("127.0.0.1") + struct.pack(">i", port)
    names = b"".join(struct.pack(">h", 0) + text(f"topic-{number}") + b"\0" * 5 for number in range(topics))
    while header := reader.read(4):
        (size,) = struct.unpack(">i", header)
        request = reader.read(size)
        api, _, correlation = struct.unpack(">hhi", request[:8])
        if api == 18:  # ApiVersions: SaslHandshake, SaslAuthenticate, Metadata, Produce, in their first forms
            keys = [(0, 0, 3), (3, 1, 1), (17, 0, 1), (18, 0, 0), (36, 0, 0)]
            listed = b"".join(struct.pack(">hhh", *key) for key in keys)
            answer = struct.pack(">hi", 0, len(keys)) + listed
        elif api == 17:
            answer = struct.pack(">hi", 0, 1) + text("PLAIN")
        elif api == 36:
            answer = struct.pack(">hhi", 0, -1, 0)
        else:
            rack = struct.pack(">h", -1)
            answer = struct.pack(">i", 1) + broker + rack + struct.pack(">ii", 0, topics) + names
        answer = struct.pack(">i", correlation) + answer
        peer.sendall(struct.pack(">i", len(answer)) + answer)


def main() -> None:
    order = hear()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # whatever the platform is measured with
    os.nice(19)
    stop = threading.Event()
    result: dict[str, Any] = {}

    def run() -> None:
        found = ATTACKS[order["attack"]](order, stop)
        result.update({"sent": found} if isinstance(found, str) else found)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    say("under way")
    hear()
    stop.set()
    thread.join(20)
    say(result or {"sent": "did not end"})
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    random.seed(1)
    main()
