"""Layouts of lists at 80, 120 and 200 columns and without a terminal; golden texts, in golden/.

After a wanted change: remove the file, run the test, which writes it and fails, and read what it wrote.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aep import output
from aep.broker.dead_letters import DeadLetter
from aep.cli import trace, views
from aep.google.dead_letters import Letter
from aep.layout import Column, Item
from aep.runtime.meters import LastCalls
from aep.store.overview import State
from event_platform.domain.events import catalog
from event_platform.domain.kept_events import Course, CourseStatus, FailedAttempt, KeptEvent
from event_platform.domain.messages.message import Message
from event_platform.domain.record.logs import LogEntry, LogType
from event_platform.domain.subscriptions import Owner
from event_platform.domain.tenants import Tenant, Way
from event_platform.domain.timestamps import to_rfc3339
from support.clock import START
from support.shown_records import RECORD, SUBSCRIBER, TOPIC, TYPES, id_of

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[3] / "docs"
WIDTHS = (80, 120, 200)


ERP = State(
    id=id_of(1),
    subscriber_id=id_of(11),
    subscriber_name="ERP connector",
    tenant="https://pim.example.com",
    client_id="2_1x8s0r6hgkkkc0kos8",
    destination="https://erp.example.com/akeneo/events",
    events=TYPES,
    status="active",
    rate=42.5,
    lanes=16,
    attempts=1240,
    success_rate=0.998,
    delivered=1237,
    failed=3,
    queued=4,
    retries=0,
    waiting_since=START - timedelta(seconds=2),
    ended=0,
    last_error=None,
    last_error_at=None,
    last_failure="retryable: 503 destination_failure",
    last_failure_at=START - timedelta(minutes=25),
)
SHOP = replace(
    ERP,
    id=id_of(2),
    subscriber_id=id_of(12),
    subscriber_name="Shop, Größe M (日本)",
    tenant="https://the-pim-of-a-customer-with-a-long-name.cloud.akeneo.com",
    client_id="shop",
    destination="https://hooks.shop.example.com/" + "a-path-that-is-longer-than-a-line/" * 4,
    events=tuple(catalog.load().types),
    status="suspended",
    rate=1.0,
    lanes=1,
    delivered=0,
    failed=52_341,
    queued=1_204_000,
    retries=17,
    waiting_since=START - timedelta(days=2),
    ended=312,
    last_error="destination_failure",
    last_error_at=START - timedelta(minutes=1),
    last_failure="suspending: 404 destination_not_found",
    last_failure_at=START - timedelta(minutes=2),
)
QUIET = replace(
    ERP,
    id=id_of(3),
    subscriber_name="Search",
    destination="projects/search/topics/pim-events",
    events=(),
    delivered=0,
    failed=0,
    queued=0,
    waiting_since=None,
    last_failure=None,
    last_failure_at=None,
)


def entry(number: int, operation: str, *, times: int = 1, reason: str = "", message: str = "") -> LogEntry:
    return LogEntry(
        id=id_of(100 + number),
        owner=Owner("https://pim.example.com", "erp"),
        log_type=LogType.ERROR if reason else LogType.ACTION,
        at=START + timedelta(seconds=number),
        operation=operation,
        subscriber_id=id_of(11),
        subscription_id=id_of(1) if number else None,
        error_reason=reason or None,
        error_message=message or None,
        occurrences=times,
    )


LOG = [
    entry(0, "subscriber_created_by_the_user"),
    entry(1, "subscription_created_by_the_user"),
    entry(
        2,
        "failed_to_deliver_event",
        times=52_341,
        reason="destination_not_found",
        message="https://hooks.shop.example.com/"
        + "a-path-that-is-longer-than-a-line/" * 3
        + " answered 404",
    ),
    entry(3, "subscription_suspended_by_the_platform", message="the endpoint answered 404"),
]
DEAD = [
    DeadLetter(
        4711, START.timestamp(), "KeyError: 'a bug of ours'", id_of(1), id_of(201), TYPES[0], 0, 3, 1, 1
    ),
    DeadLetter(
        4713,
        START.timestamp(),
        "ValueError: " + "a long word and another " * 8,
        "",
        "an-id-that-a-pim-chose-" + "x" * 80,
        TYPES[1],
        0,
        0,
        1,
        0,
    ),
]
ORIGIN = "projects/my-project/subscriptions/deliver-deliveries-0"
LETTERS = [
    Letter("13371337", START, ORIGIN, "no JSON object", id_of(201), id_of(1), Message(b"", {}), "a"),
    Letter("13371338", START, "", "Pub/Sub had tried 5 times", "", "", Message(b"", {}), "b"),
]
CALLS = {
    Way.CLOUDEVENTS: LastCalls(START.timestamp(), START.timestamp(), None, None, None),
    Way.EVENTS_API: LastCalls(None, None, START.timestamp(), 401, "wrong_signature"),
}
PIMS = [
    views.pim_item(Tenant(url="https://pim.example.com"), "/ingest", CALLS.items()),
    views.pim_item(Tenant(url=SHOP.tenant, auth="platform-key"), "/ingest", ()),
    views.pim_item(Tenant(host_pattern="*.cloud.akeneo.com"), "", ()),
]
CLIENTS = [
    {
        "client_id": "erp",
        "username": "erp_4711",
        "platform_keys": 2,
        "previous_keys_until": ["2026-01-31T13:00:00Z"],
    },
    {
        "client_id": "2_1x8s0r6hgkkkc0kos8w4wkgkk8ggwc8w4o4c",
        "username": None,
        "platform_keys": 0,
        "previous_keys_until": [],
    },
]

WHOSE = {"pim_url": "https://pim.example.com", "client_id": "erp"}

LISTS: Mapping[str, tuple[tuple[Column, ...], list[Item]]] = {
    "status": (views.SUBSCRIPTIONS, [views.subscription_item(each) for each in (ERP, SHOP, QUIET)]),
    "status-of-short-ones": (views.SUBSCRIPTIONS, [views.subscription_item(each) for each in (ERP, QUIET)]),
    "logs": (views.LOG, [views.log_item(each) for each in LOG]),
    "pims-list": (views.PIMS, PIMS),
    "pims-clients": (views.CLIENTS, [views.client_item(each) for each in CLIENTS]),
    "dead-list": (views.DEAD_LETTERS, [views.dead_letter_item(each) for each in DEAD]),
    "dead-list-on-google": (views.MESSAGES, [views.message_item(each) for each in LETTERS]),
    "subscribers-list": (views.SUBSCRIBERS, [views.subscriber_item(SUBSCRIBER)]),
    "subscriptions-list": (views.RECORDS, [views.record_item(RECORD), views.record_item(TOPIC)]),
    "subscriptions-list-of-the-operator": (views.RECORDS, [views.record_item(RECORD | WHOSE)]),
    "events": (
        views.EVENT_TYPES,
        [views.row(each.name, each.certainty, each.trigger) for each in catalog.load().types.values()],
    ),
}


Show = Callable[[str, int | None], str]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Returns what a list of LISTS prints at a width; None is without a terminal, as in a pipe."""

    def show(name: str, width: int | None) -> str:
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        columns, items = LISTS[name]
        output.show(columns, items, empty="none")
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_at_a_width(name: str, width: int, shown: Show) -> None:
    check_golden(f"{name}-{width}", shown(name, width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("subscribers-show", views.subscriber_in_full(SUBSCRIBER)),
        ("subscriptions-show", views.record_in_full(RECORD | WHOSE)),
    ],
)
def test_one_thing_at_a_width(
    name: str, item: Item, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output.show_one(item)
    check_golden(f"{name}-{width}", capsys.readouterr().out)


def event() -> KeptEvent:
    """One that failed twice at a subscription, ended at another, and was sent again to a third."""
    failed = [
        FailedAttempt(START + timedelta(minutes=5 * number), "retryable", "destination_failure", 503, 12)
        for number in range(2)
    ]
    return KeptEvent(
        number=2,
        tenant="https://the-pim-of-a-customer-with-a-long-name.cloud.akeneo.com",
        accepted_at=START,
        way="events-api",
        id=id_of(201),
        type=TYPES[1],
        time=to_rfc3339(START),
        identity=(id_of(301),),
        courses=[
            Course(id_of(1), CourseStatus.WAITING, attempts=failed),
            Course(id_of(2), CourseStatus.ENDED, message="the subscription is suspended", ended_at=START),
            Course(id_of(3), CourseStatus.DELIVERED, True, START, status=204, milliseconds=7, ended_at=START),
        ],
    )


@pytest.mark.parametrize("width", [1, 40, *WIDTHS])
def test_a_trace_at_a_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for line in trace._lines(event()):
        output.echo(line, hanging=4)
    found = capsys.readouterr().out
    if width in WIDTHS:
        check_golden(f"trace-{width}", found)
    assert [number for number in (1, 2, 3, 201) if id_of(number) not in found] == []


def check_golden(name: str, found: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    if not golden.exists():
        golden.write_text(found)
        pytest.fail(f"wrote {golden}: read it")
    assert found == golden.read_text()


def test_the_page_of_commands_shows_one_of_them() -> None:
    block, _, _ = (GOLDEN / "status-80.txt").read_text().partition("\n\n")
    assert f"```text\n{block}\n```" in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize("width", [1, 20, 40, 60, *WIDTHS, 300, None])
@pytest.mark.parametrize("name", LISTS)
def test_no_id_and_no_url_is_cut_at_any_width(name: str, width: int | None, shown: Show) -> None:
    found = shown(name, width)
    for item in LISTS[name][1]:
        words = " ".join([*item.cells, *(fact.text for fact in item.more)]).split()
        assert [word for word in words if word not in found] == []


@pytest.mark.parametrize("name", LISTS)
def test_in_a_pipe_each_item_is_one_line_behind_the_header(name: str, shown: Show) -> None:
    header, *rows = shown(name, None).splitlines()
    columns, items = LISTS[name]
    assert header.split()[0] == columns[0].header.upper().split()[0]
    assert [item.cells[0] in row for item, row in zip(items, rows, strict=True)] == [True] * len(items)


def test_in_a_pipe_a_long_cell_adds_no_spaces_to_other_rows(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("one"), Column("two"))
    output.show(columns, [views.row("x" * 2000, "y"), views.row("x", "y")], empty="")
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [85, 2003, 83]


def test_no_items_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(views.DEAD_LETTERS, iter(()), empty=views.NO_DEAD_LETTERS)
    assert capsys.readouterr().out == "There are no dead letters: our own code has failed on nothing.\n"


def test_heads_stand_out_on_a_terminal_but_with_no_color(
    shown: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in shown("status", 80)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown("status", 80).startswith("\x1b[1m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown("status", 80)


def test_pages_are_printed_while_the_next_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[int] = []

    def items() -> Iterator[Item]:
        for number in range(3 * output.PAGE):
            if number % output.PAGE == 0:
                printed.append(len(capsys.readouterr().out.splitlines()))
            yield views.row(number)

    output.show((Column("number", is_number=True),), items(), empty="none")
    assert printed == [0, 1 + output.PAGE, output.PAGE]  # the header once


@pytest.mark.parametrize("number", [0, 1, 2 * output.PAGE, 2 * output.PAGE + 1])
def test_an_array_is_printed_in_pieces_and_is_the_same(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [{"number": each, "text": "é"} for each in range(number)]
    output.show_json(iter(values))
    in_pieces = capsys.readouterr().out
    output.echo_json(values)
    assert in_pieces == capsys.readouterr().out
