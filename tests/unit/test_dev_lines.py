"""The lines of `aep dev` about the platform's attempts, from the entries of its log."""

from typing import Any

import pytest

from aep.sandbox.dev_deliveries import Exchange
from aep.sandbox.dev_lines import RESUMES, DevLines, said_of
from event_platform.domain.attempts.outcomes import Answer
from support.records import UPDATED

TYPE = "com.akeneo.pim.v1.reference-entity-record.created"
"""The longest of the catalog."""


def attempted(outcome: str, status: int | None, attempt: int = 1, **more: str | None) -> dict[str, Any]:
    return {
        "event": "delivery.attempted",
        "timestamp": "2026-01-31T12:00:00.123456Z",
        "event_type": TYPE,
        "attempt": attempt,
        "outcome": outcome,
        "status": status,
        "reason": None,
        "milliseconds": 4999.6,
        **more,
    }


def sentences(*entries: dict[str, Any]) -> list[str]:
    """All that is said beside the lines of the attempts."""
    dev = DevLines()
    return [line for entry in entries for line in dev.lines(entry) if "  " not in line]


def exchange(event_type: str, data: dict[str, Any], answer: Answer | None = None) -> Exchange:
    headers = [("X-AKENEO-SIGNATURE-PRIMARY", "5d2c")]
    return Exchange("http://app/events", headers, {"type": event_type, "data": data}, answer)


def test_an_attempt_is_a_line_with_its_entity() -> None:
    data = {"product": {"uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"}}
    entry = attempted("delivered", 200, attempt=3) | {"event_type": UPDATED, "milliseconds": 12.3}
    [line] = DevLines().lines(entry, exchange(UPDATED, data))
    assert line.endswith("  product.updated  3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11  200  12 ms (3)")
    assert len(line) <= 80


def test_the_longest_type_fits_into_80_columns() -> None:
    data = {"reference_entity": {"code": "brand"}, "reference_entity_record": {"code": "akeneo"}}
    entry = attempted("delivered", 200, attempt=3) | {"milliseconds": 12.3}
    [line] = DevLines().lines(entry, exchange(TYPE, data))
    assert "  reference-entity-record.created  " in line
    assert len(line) <= 80


def test_an_own_type_is_shown_without_an_entity() -> None:
    entry = attempted("delivered", 200) | {"event_type": "com.example.order.placed"}
    [line, *_] = DevLines().lines(entry, exchange("com.example.order.placed", {}))
    assert "  com.example.order.placed  200  " in line


def test_verbose_lines_have_the_request_and_the_answer() -> None:
    data = {"product": {"uuid": "3f1a"}}
    answer = Answer(500, {"retry-after": "1"}, b"a fault\nof ours")
    entry = attempted("retryable", 500) | {"event_type": UPDATED}
    _, *lines = DevLines(is_verbose=True).lines(entry, exchange(UPDATED, data, answer))
    assert lines[:2] == ["    > POST http://app/events", "    > X-AKENEO-SIGNATURE-PRIMARY: 5d2c"]
    assert '    >       "uuid": "3f1a"' in lines
    assert lines[-5:-1] == ["    < 500", "    < retry-after: 1", "    < a fault", "    < of ours"]


def test_an_answer_is_said_when_it_changes() -> None:
    failed = attempted("retryable", 500, retry_at="2026-01-31T12:00:02Z")
    taken = attempted("delivered", 200) | {"milliseconds": 9.0}
    said = sentences(failed, failed, attempted("retryable", 500, attempt=4), taken)
    assert [each.partition(":")[0] for each in said] == [
        "Your app answered 500",
        "Your app answered 500",
        "Your app takes events again.",
    ]
    assert said[0].endswith(":02; after 3 failed retries it gives the event up.")
    assert said[1] == "Your app answered 500: the platform gives the event up."


def test_nothing_is_said_of_an_app_that_takes_all() -> None:
    quick = {"milliseconds": 9.0}
    assert sentences(attempted("delivered", 200) | quick, attempted("delivered", 204) | quick) == []


def test_an_app_that_is_down_is_said_with_the_reason() -> None:
    retried = attempted("retryable", None, reason="connection_refused", retry_at="2026-01-31T12:00:02Z")
    [said] = sentences(retried)
    assert said.startswith(
        "Your app was not reached (connection refused): the platform tries the event again"
    )


@pytest.mark.parametrize(
    ("reason", "detail", "said"),
    [
        ("connection_refused", "connection refused", "Your app was not reached (connection refused)"),
        ("dns_lookup_failure", "", "Your app was not reached (dns lookup failure)"),
        ("unexpected_eof", "closed", "Your app closed the connection before its answer was complete"),
        (
            "destination_failure",
            "not HTTP",
            "What your app answered is no HTTP, or its headers are too large",
        ),
    ],
)
def test_an_app_without_an_answer_is_said_once_and_only_then_as_not_reached(
    reason: str, detail: str, said: str
) -> None:
    [sentence] = sentences(attempted("retryable", None, reason=reason, detail=detail))
    assert sentence == f"{said}: the platform gives the event up."


def test_a_404_is_said_with_its_suspension() -> None:
    said = sentences(attempted("suspending", 404), {"event": "subscription.suspended"}, {"event": "other"})
    assert said == [
        "Your app answered 404: for the platform the endpoint is gone, and the event is given up.",
        "The platform has suspended the subscription and sends nothing more; `aep trigger` resumes it.",
    ]


@pytest.mark.parametrize(
    ("retry_at", "when"), [("2026-01-31T12:00:00.123Z", "at once"), ("2026-01-31T12:00:30Z", "at ")]
)
def test_a_429_slows_down(retry_at: str, when: str) -> None:
    [said] = sentences(attempted("throttled", 429, retry_at=retry_at))
    assert said.startswith(f"Your app answered 429: the platform tries the event again {when}")
    assert said.endswith(" and for an hour, and sends more slowly.")


def test_a_429_for_an_hour_is_the_end() -> None:
    assert sentences(attempted("throttled", 429)) == [
        "Your app answered 429: the platform gives the event up."
    ]


def test_a_slow_answer_is_said_once() -> None:
    slow, quick = attempted("delivered", 200), attempted("delivered", 200) | {"milliseconds": 9.0}
    assert sentences(quick, slow, slow, quick) == [
        "Your app took 5.0 s to answer: after 5 s the platform stops waiting, and tries the event again.",
        "Your app is no longer slow.",
    ]


def test_no_answer_in_time_is_said_with_the_time() -> None:
    late = attempted("retryable", None, reason="destination_timeout", retry_at="2026-01-31T12:00:02Z")
    [said] = sentences(late)
    assert said.startswith("Your app did not answer within 5 s: the platform tries the event again at ")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"result": "not_matched", "reasons": ["its filter", "its status"]},
            "nobody gets it: its filter; its status",
        ),
        ({"outcome": "delivered"}, "delivered to http://app"),
        ({"outcome": "waiting"}, "no answer of http://app yet; `aep dev` shows it"),
        (
            {"outcome": "waiting", "attempts": [{"status": 500}]},
            "Your app answered 500; `aep dev` shows when it is tried again",
        ),
        ({"outcome": "ended", "status": 500}, "Your app answered 500; the event is given up."),
        (
            {"outcome": "ended", "status": 404, "reason": "destination_not_found"},
            f"Your app answered 404; the event is given up. The subscription is suspended; {RESUMES}.",
        ),
        (
            {"outcome": "ended", "status": 302, "reason": "destination_redirected"},
            f"Your app answered 302; the event is given up. The subscription is suspended; {RESUMES}.",
        ),
    ],
)
def test_a_trigger_says_what_came_of_its_event(found: dict[str, Any], said: str) -> None:
    assert said_of({"result": "matched", **found}, "http://app") == said
