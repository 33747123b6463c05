"""Each event of the log is on `docs/log-events.md`, which names no other.

Other pages name those that somebody may have to act on. Each of these, and each that the deployment counts,
is provoked by a test that bears the marker `provokes`, which fails it when the event is not logged
(`tests/support/log_events.py`).
"""

import ast
import re
from collections.abc import Iterator

from event_platform.domain.record.notifications import Result
from stack.alerts import ALERTS, Line
from stack.observability import LOGGED, ONLY
from stack.source import FOLDER

REPOSITORY = FOLDER.parent
LIST = REPOSITORY / "docs" / "log-events.md"
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
    "a file": {
        "aep.db",
        "application_default_credentials.json",
        "archive.txt",
        "chain.pem",
        "control.sock",
        "main.py",
        "pims.json",
        "secrets.key",
    },
    "a key of a request's state": {"event_platform.owner"},
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
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def nodes_of_the_code() -> Iterator[ast.AST]:
    for path in [*FOLDER.rglob("*.py"), *(REPOSITORY / "local").rglob("*.py")]:
        yield from ast.walk(ast.parse(path.read_text()))


def texts_of_the_code() -> set[str]:
    """Returns all texts in the form of an event: constants, and what the results of notifications make."""
    texts = {node.value for node in nodes_of_the_code() if isinstance(node, ast.Constant)}
    found = {text for text in texts if isinstance(text, str) and re.fullmatch(NAME, text)}
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


def named_by_pages() -> set[str]:
    texts = "\n".join(page.read_text() for page in PAGES)
    quoted = set(re.findall(rf'[`"]({NAME})[`"]', texts))
    return (quoted & texts_of_the_code() | set(SURELY_EVENTS.findall(texts))) - no_events()


def provoked() -> set[str]:
    """Returns the names that the decorators and parameters of tests are marked with."""
    return {
        name
        for path in (REPOSITORY / "tests").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
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


def listed() -> dict[str, str]:
    """Returns the events of the page, each with the text of its level."""
    rows = re.findall(r"^\| (`.*?`) \| ([a-z, ]+) \| \S", LIST.read_text(), re.MULTILINE)
    return {name: level for names, level in rows for name in re.findall(r"`(.*?)`", names)}


def test_the_page_lists_the_events_of_the_code_and_no_others() -> None:
    logged = texts_of_the_code() - no_events()
    assert sorted(logged - set(listed())) == [], "the page lacks them, or NO_EVENTS does"
    assert sorted(set(listed()) - logged) == [], "nothing logs them any more"


def test_the_page_lists_the_levels_of_the_code() -> None:
    page = listed()
    wrong = {
        name: found for name, found in levels().items() if not found <= set(page.get(name, "").split(", "))
    }
    assert wrong == {}


def test_what_is_no_event_is_still_in_the_code() -> None:
    assert sorted(no_events() - texts_of_the_code()) == []


def test_only_the_platforms_suspensions_are_counted() -> None:
    assert ONLY == {"suspensions": ['jsonPayload.by="platform"']}
