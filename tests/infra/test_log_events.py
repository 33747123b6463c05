"""Each event of the log that the deployment counts, or that a page names, is provoked by a test.

The tests are those that bear the marker `provokes`, which fails them when the event is not logged
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
PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *(REPOSITORY / "docs").rglob("*.md")]
NAME = r"[a-z][a-z_]*\.[a-z][a-z_]*"
SURELY_EVENTS = re.compile(rf'(?:[Ll]og lines? |jsonPayload\.event=|"event": ?|the line )[`"]({NAME})[`"]')
NO_EVENTS = {
    "aep.db": "a file",
    "secrets.key": "a file",
    "config.topic_id": "a field",
    "secret.primary": "a field",
    "secret.secondary": "a field",
    "subscription.resumed": "a type of notifications",
    "subscription.revoked": "a type of notifications",
}
"""Texts of the code in the form of an event which pages name as something else."""


def texts_of_the_code() -> set[str]:
    """All that could be the name of an event: constants, and what the results of notifications make."""
    found = {f"notification.{result}" for result in Result}
    for path in [*FOLDER.rglob("*.py"), *(REPOSITORY / "local").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def named_by_pages() -> set[str]:
    texts = "\n".join(page.read_text() for page in PAGES)
    quoted = set(re.findall(rf'[`"]({NAME})[`"]', texts))
    return (quoted & texts_of_the_code() | set(SURELY_EVENTS.findall(texts))) - set(NO_EVENTS)


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


def test_what_is_no_event_is_still_named() -> None:
    texts = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in NO_EVENTS if f"`{name}`" not in texts and f'"{name}"' not in texts] == []


def test_only_the_platforms_suspensions_are_counted() -> None:
    assert ONLY == {"suspensions": ['jsonPayload.by="platform"']}
