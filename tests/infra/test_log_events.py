"""Each event of the log is on `docs/log-events.md`, which names no other.

Other pages name those that somebody may have to act on. Each of these, and each that the deployment counts,
is provoked by a test that bears the marker `provokes`, which fails it when the event is not logged
(`tests/support/log_events.py`).
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

from event_platform.domain.record.notifications import Result
from stack.alerts import ALERTS, Line
from stack.observability import LOGGED, ONLY
from stack.source import FOLDER
from support.log_events import FIELDS_OF_ALL, LIST, Row, rows_of_the_page

REPOSITORY = FOLDER.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "SECURITY.md",
    *(page for page in (REPOSITORY / "docs").rglob("*.md") if page != LIST),
]
NAME = r"[a-z][a-z_]*\.[a-z][a-z_]*"
SURELY_EVENTS = re.compile(rf'(?:[Ll]og lines? |jsonPayload\.event=|"event": ?|the line )[`"]({NAME})[`"]')
NO_EVENTS = {
    "a domain": {"example.com", "home.arpa"},
    "a field": {
        "config.broker",
        "config.topic_id",
        "config.url",
        "contact.notification_webhook_secret",
        "contact.notification_webhook_url",
        "data.resource",
        "sasl_auth.password",
        "secret.primary",
        "secret.secondary",
        "tls.client_key_pem",
    },
    "a key of a request's state": {"event_platform.owner"},
    "a message of ASGI": {"http.disconnect", "http.request"},
    "a part of event types": {"product.updated", "updated.delta"},
    "a type of notifications": {
        "subscriber.deleted",
        "subscription.deleted",
        "subscription.resumed",
        "subscription.revoked",
    },
    "an option of gRPC": {
        "grpc.initial_reconnect_backoff_ms",
        "grpc.max_receive_message_length",
        "grpc.max_reconnect_backoff_ms",
        "grpc.max_send_message_length",
    },
}
"""Texts of the code in the form of an event, by what they are."""
FILES = re.compile(r".*\.(?:css|db|html|js|json|key|md|pem|py|sock|svg|txt)")
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


@cache
def nodes_of_the_code() -> tuple[ast.Constant | ast.Call, ...]:
    return tuple(
        node
        for path in [*FOLDER.rglob("*.py"), *(REPOSITORY / "local").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant | ast.Call)
    )


def texts_of_the_code() -> set[str]:
    """Returns all texts in the form of an event: constants, and what the results of notifications make."""
    texts = {node.value for node in nodes_of_the_code() if isinstance(node, ast.Constant)}
    found = {text for text in texts if isinstance(text, str) and re.fullmatch(NAME, text)}
    found = {text for text in found if FILES.fullmatch(text) is None}
    return found | {f"notification.{result}" for result in Result}


def no_events() -> set[str]:
    return set().union(*NO_EVENTS.values())


def levels() -> dict[str, set[str]]:
    """Returns the levels at which the code logs each event that a call names."""
    found: dict[str, set[str]] = {}
    for node in nodes_of_the_code():
        match node:
            case ast.Call(ast.Attribute(_, method), [ast.Constant(str(name)), *_]) if method in METHODS:
                if re.fullmatch(NAME, name):
                    found.setdefault(name, set()).add("error" if method == "exception" else method)
    return found


def fields_of_the_code() -> tuple[dict[str, set[str]], set[str]]:
    """Returns the fields that calls name, by event, and the events that may have others or no such call."""
    named: dict[str, set[str]] = {}
    more: set[str] = set()
    for node in nodes_of_the_code():
        match node:
            case ast.Call(ast.Attribute(_, method), [ast.Constant(str(name)), *_], keywords):
                if method not in METHODS or not re.fullmatch(NAME, name):
                    continue
                fields = {each.arg for each in keywords if each.arg is not None}
                named.setdefault(name, set()).update(fields - FIELDS_OF_ALL)
                if any(each.arg is None for each in keywords):
                    more.add(name)
            case _:
                pass
    return named, more | (set(listed()) - set(named))


def named_by_pages() -> set[str]:
    texts = "\n".join(page.read_text() for page in PAGES)
    quoted = set(re.findall(rf'[`"]({NAME})[`"]', texts))
    return (quoted & texts_of_the_code() | set(SURELY_EVENTS.findall(texts))) - no_events()


def provoked() -> set[str]:
    """Returns the names that the decorators and parameters of tests are marked with."""
    return {
        name
        for path in (REPOSITORY / "tests").rglob("*.py")
        if "mark.provokes" in (text := path.read_text())
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.provokes"
        for name in _texts(call)
    }


def _texts(call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        assert isinstance(argument, ast.Constant), "write the event out, so that it is found"
        yield str(argument.value)


def test_every_event_that_is_counted_or_named_is_provoked_by_a_test() -> None:
    looked_at = " ".join(alert.condition.filter for alert in ALERTS if isinstance(alert.condition, Line))
    counted = {event for event, _ in LOGGED.values()} | set(SURELY_EVENTS.findall(looked_at))
    assert sorted((counted | named_by_pages()) - provoked()) == []


def listed() -> dict[str, Row]:
    """Returns the events of the page, each with its row."""
    return {name: row for row in rows_of_the_page() for name in row.events}


def test_every_row_of_the_page_has_events_level_fields_and_meaning() -> None:
    assert len(rows_of_the_page()) == len(re.findall(r"^\| `", LIST.read_text(), re.MULTILINE))


def test_the_page_lists_the_events_of_the_code_and_no_others() -> None:
    logged = texts_of_the_code() - no_events()
    assert sorted(logged - set(listed())) == [], "the page lacks them, or NO_EVENTS does"
    assert sorted(set(listed()) - logged) == [], "nothing logs them any more"


def test_the_page_lists_the_levels_of_the_code() -> None:
    page = listed()
    wrong = {name for name, found in levels().items() if name in page and not found <= page[name].levels}
    assert wrong == set()


def test_the_page_lists_the_fields_of_the_code() -> None:
    """Fields that a call spreads, and events whose names are computed, are looked at when tests provoke
    them.
    """
    named, computed = fields_of_the_code()
    page = listed()
    lacking = {name: fields - page[name].fields for name, fields in named.items() if name in page}
    assert {name: fields for name, fields in lacking.items() if fields} == {}, "the page lacks these"
    too_many = {
        event: row.fields - set().union(*(named[each] for each in row.events))
        for row in rows_of_the_page()
        for event in row.events[:1]
        if not computed & set(row.events)
    }
    assert {name: fields for name, fields in too_many.items() if fields} == {}, "no call has these"


def test_what_is_no_event_is_still_in_the_code() -> None:
    assert sorted(no_events() - texts_of_the_code()) == []


def test_only_the_platforms_suspensions_are_counted() -> None:
    assert ONLY == {"suspensions": ['jsonPayload.by="platform"']}
