"""The attacks in full size, each beside a PIM that must not notice: `make test-hostile`.

Times decide here, so it is run by hand, on a machine that does nothing else or, as root, above all else:
`chrt -r 1 make test-hostile`. The table at the end has a row
for each case: what was sent, the p99 of the answers that the PIM beside got meanwhile, the p50 of its
deliveries as a multiple of what it is alone, and the memory of all of the platform's processes.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hostile import keys
from hostile.world import HOSTILE_KEY, UPDATED, Attacked, Figures, https_to, world
from support.mail_server import MailBox, mail_server
from support.processes import free_port, http

from bench.machine import Disturbance  # isort: skip - behind world, which says where the bench is
from bench.measuring import Bench, Options, bench

SECONDS = 10.0
"""Of measuring, alone and under attack."""
MAX_INGEST_MS = 50.0
MAX_RATIO = 1.2
MAX_PSS_MB = 300.0
BACK_MB = 40.0
"""By how much the memory may be larger after the attack than before: a worker that has grown by less than
GROWN_BYTES is not replaced, and the owner of the file never is."""
BACK_SECONDS = 20.0
LEFT_SECONDS = 400.0
"""The seconds to get back where a million deliveries are left to be dropped."""
KIB = 1024
MIB = 1024 * KIB
DELETED = "com.akeneo.pim.v1.product.deleted"


@dataclass(frozen=True)
class Attack:
    """Orders to attackers, and what else has to hold after them: a text for each thing that does not."""

    orders: list[dict[str, Any]]
    complaints: Callable[[Attacked, list[dict[str, Any]]], Iterator[str]] = lambda world, said: iter(())
    leaves: Sequence[str] = ()
    """Paths of subscriptions that are deleted after it, since their deliveries would go on for hours."""


Prepare = Callable[[Attacked], Attack]


@dataclass(frozen=True)
class Case:
    name: str
    prepare: Prepare
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


CASES: dict[str, Case] = {}


def case(name: str, **settings: str) -> Callable[[Prepare], Prepare]:
    """Registers what prepares an attack; `settings` are AEP_ variables of the platform."""

    def register(prepare: Prepare) -> Prepare:
        CASES[name] = Case(name, prepare, settings)
        return prepare

    return register


# --- A: work on others' input ---


def kafka_body(key: Any, port: int = 4) -> dict[str, Any]:
    config = keys.kafka_config(f"127.0.0.1:{port}", key)
    return {"events": [UPDATED], "type": "kafka", "config": config}


@case("A1 keys, managed")
def keys_in_management(world: Attacked) -> Attack:
    world.subscribe(kafka_body(None))
    at = f"/subscribers/{world.subscriber}/subscriptions"
    bodies = [kafka_body(keys.rsa_key(each)) for each in (keys.RSA_4484, keys.RSA_19630)]
    return Attack([world.order("bodies", bodies=[("POST", at, body) for body in bodies])])


@case("A1 keys, attempts")
def keys_at_attempts(world: Attacked) -> Attack:
    world.subscribe(*[kafka_body(keys.rsa_key(keys.RSA_4484))] * 8)
    return Attack([world.order("dead_hosts", rate=10)])


@case("A2 combining chars")
def combining_characters(world: Attacked) -> Attack:
    world.subscribe(https_to("http://127.0.0.1:4/"))
    return Attack([world.order("combining_characters", bytes=64 * KIB)])


def long_answers(kind: str) -> Prepare:
    def prepare(world: Attacked) -> Attack:
        port = free_port()
        world.subscribe(*[https_to(f"http://127.0.0.1:{port}/")] * 20)
        return Attack([world.order("long_answers", port=port, kind=kind, rate=8)])

    return prepare


for kind in ("headers", "chunks", "trailers"):
    case(f"A3 answers, {kind}")(long_answers(kind))


@case("A4 120,000 topics")
def many_topics(world: Attacked) -> Attack:
    port = free_port()
    world.subscribe(*[kafka_body(None, port)] * 4)
    return Attack([world.order("many_topics", port=port, topics=120_000, rate=5)])


@case("A5 many problems")
def many_problems(world: Attacked) -> Attack:
    world.subscribe(https_to("http://127.0.0.1:4/"))
    at = f"/subscribers/{world.subscriber}/subscriptions"
    config = {"url": "ftp://x", "secret": {"primary": "x" * 40}, "headers": {"a b": "c"}}
    events = [f"unknown-{number}" for number in range(1000)]
    body = {"events": events, "type": "https", "config": config, "subject": "x"}
    bodies = [("POST", at, body | {"more": [0] * zeros}) for zeros in (480_000, 3_900)]
    return Attack([world.order("bodies", bodies=bodies)])


@case("A6 1,000 × 400")
def large_batches(world: Attacked) -> Attack:
    made = world.subscribe(*[https_to("http://127.0.0.1:4/")] * 400)
    return Attack([world.order("large_batches", requests=2, pause=4)], leaves=made)


@case("good events × 400")
def good_events(world: Attacked) -> Attack:
    """To endpoints that are well, so that all that bounds them is their rate."""
    urls = world.bench.endpoints(f"/flood-{number}" for number in range(400))
    made = world.subscribe(*map(https_to, urls))
    return Attack([world.order("large_batches", requests=3, pause=2)], leaves=made)


@case("A7 /metrics, 234/s")
def scrapes(world: Attacked) -> Attack:
    return Attack([world.order("scrapes", url=world.metrics_url, path="/metrics", rate=234)])


# --- B: connections and bytes ---


@case("B1 pipelining")
def pipelining(world: Attacked) -> Attack:
    return Attack([world.order("pipelines", path="/openapi.json", connections=60, bytes=250_000)])


@case("B1 all places taken")
def places_taken(world: Attacked) -> Attack:
    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        """After the attack, with its connections gone or not, a newcomer is answered."""
        began = time.monotonic()
        try:
            http().get(f"{world.platform.url}/health", timeout=10)
        except OSError:
            yield f"nobody else was let in for {time.monotonic() - began:.0f} s"

    order = world.order("unread_answers", path="/openapi.json", connections=4096, requests=4)
    return Attack([order], complaints)


@case("B2 made-up signature")
def made_up_signatures(world: Attacked) -> Attack:
    return Attack([world.order("made_up_signatures", connections=100, bytes=20 * MIB)])


@case("B3 unread events")
def unread_events(world: Attacked) -> Attack:
    port = free_port()
    world.subscribe(*[https_to(f"http://127.0.0.1:{port}/")] * 200)
    return Attack([world.order("receiver_that_does_not_read", port=port, events=20, bytes=800_000)])


@case("B4 connects that hang")
def hanging_connects(world: Attacked) -> Attack:
    port = free_port()
    paths = world.subscribe(*[https_to(f"http://127.0.0.1:{port}/")] * 200)
    return Attack([world.order("receiver_that_does_not_accept", port=port, rate=20)], leaves=paths)


# --- C: good credentials ---


def bytes_of_store(world: Attacked) -> int:
    """Returns the bytes of all files, but for the log of commits, whose size has a bound of its own."""
    files = (world.folder / "data").iterdir()
    return sum(file.stat().st_size for file in files if not file.name.endswith("-wal"))


@case("C distinct refusals")
def distinct_refusals(world: Attacked) -> Attack:
    (path,) = world.subscribe(https_to("http://127.0.0.1:4/"))
    before = bytes_of_store(world)

    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        if (grown := bytes_of_store(world) - before) > 20 * MIB:
            yield f"the store grew by {grown / 1e6:.0f} MB"

    return Attack([world.order("distinct_refusals", path=path)], complaints)


@case("C suspend, resume")
def suspensions(world: Attacked) -> Attack:
    box: MailBox = world.notes["mails"]
    (path,) = world.subscribe(https_to("http://127.0.0.1:4/"))

    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        if len(box.mails) > 30:
            yield f"{len(box.mails)} mails to one address"

    return Attack([world.order("suspend_and_resume", path=path)], complaints)


@case("C benchmarks")
def benchmarks(world: Attacked) -> Attack:
    world.subscribe(https_to("http://127.0.0.1:4/", source="benchmark"))
    return Attack([world.order("benchmarks", count=1000)])


# --- D: what tenants share ---


@case("D1 30 dead hosts", AEP_RETRY_DELAYS="0.5,0.5,0.5")
def dead_hosts(world: Attacked) -> Attack:
    """The PIM beside has a dead endpoint, too, whose retries have to come to their end as ever."""
    world.platform.subscribe("http://127.0.0.1:4/dead")
    world.subscribe(*[https_to(f"http://127.0.1.{number + 1}:4/") for number in range(30)])

    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        with closing(sqlite3.connect(f"file:{world.folder}/data/aep.db?mode=ro", uri=True)) as file:
            (ended,) = file.execute(
                "SELECT coalesce(sum(occurrences), 0) FROM log_entries"
                " WHERE tenant = ? AND operation = 'failed_to_deliver_event'",
                (world.platform.pim,),
            ).fetchone()
        if not ended:
            yield "no delivery to a dead endpoint of the PIM beside has used up its retries"

    return Attack([world.order("dead_hosts", rate=10)], complaints)


@case("D2 shared origin")
def shared_origin(world: Attacked) -> Attack:
    port = free_port()
    world.subscribe(https_to(f"http://127.0.0.1:{port}/hostile"))
    world.platform.subscribe(f"http://127.0.0.1:{port}/beside")

    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        if shared := said[0]["shared"]:
            yield f"{shared} connections used for two owners"

    return Attack([world.order("shared_origin", port=port, rate=20)], complaints)


@case("D3 dies on an event")
def dies_on_one_event(world: Attacked) -> Attack:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    world.subscribe(*[https_to(url)] * 32, https_to(url, events=[DELETED]))

    def complaints(world: Attacked, said: list[dict[str, Any]]) -> Iterator[str]:
        if (came := said[0]["came"]) > 2:
            yield f"the event came {came} times in one attempt"

    return Attack([world.order("dies_on_one_event", port=port)], complaints)


# --- further members of the kinds ---

BODIES_A_SECOND = 10
"""More is a flood of bytes, which is for a proxy in front (SECURITY.md)."""


def requests(path: str, headers: str, piece: str, times: int, *, end: str = "") -> Prepare:
    def prepare(world: Attacked) -> Attack:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers.format(key=HOSTILE_KEY)}"
        order = world.order("raw_bodies", head=head, piece=piece, times=times, end=end, rate=BODIES_A_SECOND)
        return Attack([order])

    return prepare


def sized(length: int) -> str:
    return (
        "Authorization: Bearer {key}\r\nContent-Type: application/cloudevents-batch+json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )


CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"
DEEP = ("[" * 199 + "]" * 199) + ","
case("one-byte chunks")(requests("/health", CHUNKED, "1\r\na\r\n", 800_000))
case("5 MB of [], as JSON")(requests("/ingest", sized(5_100_001), "[],", 1_700_000, end="x"))
case("5 MB nested 199")(requests("/ingest", sized(399 * 12_500 + 1), DEEP, 12_500, end="x"))


# --- running them ---


@dataclass(frozen=True)
class Row:
    """A case in the table."""

    name: str
    sent: str
    alone: Figures
    attacked: Figures
    pss_before: float
    pss_after: float
    complaints: list[str]

    @property
    def ratio(self) -> float:
        return self.attacked.delivery_p50 / self.alone.delivery_p50

    def verdict(self) -> list[str]:
        """What does not hold."""
        found = list(self.complaints)
        if self.alone.ingest_p99 > MAX_INGEST_MS / 2:
            found.append(f"the machine is not quiet: ingest p99 alone is {self.alone.ingest_p99:.0f} ms")
        if self.attacked.ingest_p99 > MAX_INGEST_MS:
            found.append(f"ingest p99 {self.attacked.ingest_p99:.0f} ms > {MAX_INGEST_MS:.0f}")
        if self.ratio > MAX_RATIO:
            found.append(f"delivery p50 {self.ratio:.2f} × {self.alone.delivery_p50:.1f} ms > {MAX_RATIO}")
        if self.attacked.pss_peak > MAX_PSS_MB:
            found.append(f"memory {self.attacked.pss_peak:.0f} MB > {MAX_PSS_MB:.0f}")
        if self.pss_after > self.pss_before + BACK_MB:
            found.append(f"memory stays at {self.pss_after:.0f} MB, was {self.pss_before:.0f}")
        return found

    def line(self) -> str:
        """Of 80 columns at most."""
        return (
            f"{self.name:20.20} {self.sent:22.22} {self.attacked.ingest_p99:7.1f} {self.ratio:6.2f}"
            f" {self.attacked.pss_peak:6.0f} {self.pss_after:6.0f}"
            f" {'FAILS' if self.verdict() else 'holds':>6}"
        )


HEAD = f"{'case':20} {'sent':22} {'p99 ms':>7} {'× p50':>6} {'MB':>6} {'after':>6} {'':>6}"


@pytest.fixture(scope="module")
def benched() -> Iterator[Bench]:
    with bench(Options(patience=60)) as made:
        yield made


class Table:
    """Prints a row when its case is over, and all of them at the end."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._print("", row.line(), *[f"    {complaint}" for complaint in row.verdict()])

    def end(self, others: float) -> None:
        lines = [row.line() for row in self._rows]
        self._print("", HEAD, "-" * len(HEAD), *lines, f"Others kept {others:.2f} cores busy meanwhile.")

    def _print(self, *lines: str) -> None:
        with self._capture.global_and_fixture_disabled():
            print(*lines, sep="\n", flush=True)


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    disturbance = Disturbance()
    made = Table(pytestconfig.pluginmanager.getplugin("capturemanager"))
    yield made
    made.end(disturbance.cores())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_the_pim_beside_does_not_notice(name: str, benched: Bench, table: Table, tmp_path: Path) -> None:
    chosen = CASES[name]
    with mail_server() as box:
        mail = {"AEP_SMTP_URL": f"smtp://127.0.0.1:{box.port}", "AEP_MAIL_FROM": "aep@example.com"}
        with world(benched, tmp_path, {**mail, **chosen.settings}) as at:
            at.notes["mails"] = box
            attack = chosen.prepare(at)
            at.measure(1)
            alone = at.measure(SECONDS)
            before = at.platform.pss_mb()
            with at.attacked(*attack.orders) as said:
                attacked = at.measure(SECONDS)
            at.unsubscribe(attack.leaves)
            after = at.pss_after(before + BACK_MB, within=LEFT_SECONDS if attack.leaves else BACK_SECONDS)
            complaints = [*attacked.lost, *attack.complaints(at, said)]
    sent = " ".join(each["sent"] for each in said)
    row = Row(name, sent, alone, attacked, before, after, complaints)
    table.add(row)
    assert not row.verdict(), "; ".join(row.verdict())
