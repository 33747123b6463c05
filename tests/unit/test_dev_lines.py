"""The lines of `aep dev` about the platform's attempts, from the entries of its log."""

from typing import Any

import pytest

from aep.sandbox.dev_lines import RESUMES, DevLines, said_of

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
    return [line for entry in entries for line in dev.lines(entry) if TYPE not in line]


def test_an_attempt_is_a_line_of_at_most_80_columns() -> None:
    [line] = DevLines().lines(attempted("delivered", 200, attempt=3))
    assert line.endswith(f"  200  {TYPE}  5000 ms (3)")
    assert len(line) <= 80


def test_an_answer_is_said_when_it_changes() -> None:
    failed = attempted("retryable", 500, retry_at="2026-01-31T12:00:02Z")
    said = sentences(failed, failed, attempted("retryable", 500, attempt=4), attempted("delivered", 200))
    assert [each.partition(":")[0] for each in said] == [
        "Your app answered 500",
        "Your app answered 500",
        "Your app takes events again.",
    ]
    assert said[0].endswith(":02; after 3 failed retries it gives the event up.")
    assert said[1] == "Your app answered 500: the platform gives the event up."


def test_nothing_is_said_of_an_app_that_takes_all() -> None:
    assert sentences(attempted("delivered", 200), attempted("delivered", 204)) == []


def test_an_app_that_is_down_is_said_with_the_reason() -> None:
    retried = attempted("retryable", None, reason="connection_refused", retry_at="2026-01-31T12:00:02Z")
    [said] = sentences(retried)
    assert said.startswith(
        "Your app was not reached (connection refused): the platform tries the event again"
    )


def test_a_404_is_said_with_its_suspension() -> None:
    said = sentences(attempted("suspending", 404), {"event": "subscription.suspended"}, {"event": "other"})
    assert said == [
        "Your app answered 404: for the platform the endpoint is gone, and the event is given up.",
        "The platform has suspended the subscription and sends nothing more; `aep trigger` resumes it.",
    ]


def test_a_429_slows_down() -> None:
    [said] = sentences(attempted("throttled", 429))
    assert (
        said
        == "Your app answered 429: the platform sends more slowly, and tries the event again for an hour."
    )


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
            {"outcome": "ended", "status": 404},
            f"Your app answered 404; the event is given up. The subscription is suspended; {RESUMES}.",
        ),
    ],
)
def test_a_trigger_says_what_came_of_its_event(found: dict[str, Any], said: str) -> None:
    assert said_of({"result": "matched", **found}, "http://app") == said
