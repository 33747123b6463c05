"""Log lines for a person: what they show, in which order, and that no text from outside moves the cursor."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from aep.runtime import log_text
from aep.runtime.log_text import LogFormat

AT = datetime(2026, 12, 1, 10, 1, 41, tzinfo=UTC)
ID = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"


def line(
    event: str, severity: str = "INFO", *, coloured: bool = False, width: int | None = None, **fields: Any
) -> str:
    """The line of an event, whatever the time zone of this machine."""
    made = log_text.to_text(
        {"event": event, **fields, "severity": severity, "timestamp": AT}, coloured=coloured, width=width
    ).decode()
    return made.replace(f"{AT.astimezone():%H:%M:%S}", "10:01:41")


def test_an_attempt_shows_what_came_of_it_first_and_no_id_is_cut() -> None:
    shown = line(
        "delivery.attempted",
        subscription_id=ID,
        event_id=ID,
        event_type="com.akeneo.pim.v1.product.updated",
        attempt=1,
        outcome="retryable",
        reason=None,
        status=500,
        milliseconds=12.5,
        retry_at="2026-12-01T10:06:41Z",
    )
    assert shown == (
        "10:01:41  info      delivery.attempted      outcome=retryable status=500 milliseconds=12.5"
        " retry_at=2026-12-01T10:06:41Z event_type=com.akeneo.pim.v1.product.updated"
        f" event_id={ID} subscription_id={ID}"
    )


def test_other_events_show_all_fields_and_what_to_do_on_a_line_of_its_own() -> None:
    shown = line("settings.unknown_variable", "WARNING", variable="AEP_X", nearest=None, fix="unset it")
    assert shown == "10:01:41  warning   settings.unknown_variable  variable=AEP_X\n    unset it"
    assert line("pims.read", pims=0) == "10:01:41  info      pims.read               pims=0"
    assert line("kept.failed", "ERROR") == "10:01:41  error     kept.failed"


def test_a_field_that_a_terminal_has_no_room_for_begins_a_line() -> None:
    ids: dict[str, Any] = {"subscription_id": ID, "event_id": ID}
    what = {"event_type": "product.updated", "outcome": "delivered", "status": 200}
    shown = line("delivery.attempted", width=80, **(ids | what))
    assert shown.splitlines() == [
        "10:01:41  info      delivery.attempted      outcome=delivered status=200",
        f"    event_type=product.updated event_id={ID}",
        f"    subscription_id={ID}",
    ]
    fix = "set AEP_SMTP_URL and AEP_MAIL_FROM, so that subscribers can be notified by e-mail when it ends"
    shown = line("notification.not_sent", "WARNING", width=80, channel="email", fix=fix)
    assert max(map(len, shown.splitlines())) <= 80
    assert " ".join(shown.split()).endswith(fix)
    assert line("x", width=10, path="/a/path/that/is/longer").splitlines()[1:] == [
        "    path=/a/path/that/is/longer"
    ]


def test_an_exception_keeps_its_lines() -> None:
    shown = line("request.failed", "ERROR", path="/ingest", exception="Traceback:\n  here\nKeyError: 'x'")
    assert shown.splitlines()[1:] == ["    Traceback:", "      here", "    KeyError: 'x'"]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("two words", '"two words"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ('say "x"', r'"say \"x\""'),
        ("Zürich", '"Zürich"'),
        ("\ud800", '"�"'),
        ("a\u2028b", '"a\\u2028b"'),
        (["a", "b"], '["a","b"]'),
        (0, "0"),
        (False, "false"),
    ],
)
def test_a_value_is_one_word_or_json(value: object, word: str) -> None:
    assert line("pims.read", value=value) == f"10:01:41  info      pims.read               value={word}"


def test_texts_on_lines_of_their_own_are_escaped_too() -> None:
    assert line("x.failed", fix='\x1b[2J "ü" \\') == '10:01:41  info      x.failed\n    \\u001b[2J "ü" \\'


def test_the_level_has_a_colour_and_the_rest_is_the_same() -> None:
    shown = line("pims.not_reread", "ERROR", coloured=True, error="away")
    assert "\x1b[31merror" in shown
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == line("pims.not_reread", "ERROR", error="away")


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, its = os.openpty()
    yield its
    os.close(ours)
    os.close(its)


@pytest.fixture
def pipe() -> Iterator[int]:
    ends = os.pipe()
    yield ends[1]
    for each in ends:
        os.close(each)


@pytest.mark.parametrize(
    ("asked", "on_terminal", "on_pipe"),
    [(None, "text", "json"), ("json", "json", "json"), ("text", "text", "text")],
)
def test_the_format_follows_the_output_unless_it_is_set(
    terminal: int, pipe: int, asked: LogFormat | None, on_terminal: str, on_pipe: str
) -> None:
    assert log_text.choose_format(asked, terminal) == on_terminal
    assert log_text.choose_format(asked, pipe) == on_pipe


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_whose_user_did_not_refuse_it(
    terminal: int,
    pipe: int,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    is_coloured: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for descriptor, expected in ((terminal, is_coloured), (pipe, False)):
        render = log_text.renderer("text", descriptor)
        assert render is not None
        made = render({"event": "pims.read", "severity": "INFO", "timestamp": AT})
        assert (b"\x1b" in made) == expected


@pytest.mark.parametrize(("asked", "is_text"), [("text", True), ("json", False), ("", False), ("xml", False)])
def test_a_command_takes_the_format_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, asked: str, is_text: bool
) -> None:
    monkeypatch.setenv("AEP_LOG_FORMAT", asked)
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    assert (log_text.renderer_of_commands() is not None) == is_text
