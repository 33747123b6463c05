"""The markers `provokes` and `alerts`: a test that bears one has the program write what it names to its log.

    @pytest.mark.provokes("delivery.ended")
    @pytest.mark.alerts("ingest-refused")

The first names events, the second alerts of the deployment that look at our lines: one line must match the
alert's filter. Whoever marks a test without provoking it sees it fail. Lines of this process count, and those
that commands which the test started wrote to their standard error. The lines that were looked for may have no
field that `docs/log-events.md` does not name.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog import BoundLoggerBase

from support.logging_filter import matches

LIST = Path(__file__).parents[2] / "docs" / "log-events.md"
FIELDS_OF_ALL = {"event", "severity", "timestamp", "exception", "exc_info", "level", "log_level"}
"""What any line may have, or the recorder of a test adds."""
_ROW = re.compile(r"^\| (`.*?`) \| ([a-z, ]+) \| ((?:`\w+`(?:, )?)*) ?\| \S.* \|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A row of the page: events, their levels, and the fields that they have between them."""

    events: list[str]
    levels: set[str]
    fields: set[str]


@cache
def rows_of_the_page() -> list[Row]:
    return [
        Row(re.findall(r"`(.*?)`", events), set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields)))
        for events, levels, fields in _ROW.findall(LIST.read_text())
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Runs the test, and fails it if what its markers name was not logged meanwhile."""
    events = {name for marker in item.iter_markers("provokes") for name in marker.args}
    alerts = {name for marker in item.iter_markers("alerts") for name in marker.args}
    if not events | alerts:
        return (yield)
    folder = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    before = _sizes(folder)
    with _recorded() as seen:
        result = yield
    lines = [*seen, *_lines_since(folder, before)]
    missing = events - {line.get("event", "") for line in lines}
    assert not missing, f"the test is marked with events that nothing logged while it ran: {missing}"
    page = {name: row.fields for row in rows_of_the_page() for name in row.events}
    unnamed = {
        (line["event"], field)
        for line in seen
        if line.get("event") in events
        for field in line.keys() - FIELDS_OF_ALL - page[line["event"]]
    }
    assert not unnamed, f"docs/log-events.md does not name these fields: {unnamed}"
    silent = {name for name in alerts if not any(_calls_somebody(name, line) for line in lines)}
    assert not silent, f"the test is marked with alerts that no line of it matches: {silent}"
    return result


def _calls_somebody(alert: str, line: dict[str, Any]) -> bool:
    """True if a line of ours on Google Cloud would match the alert."""
    from stack.alerts import ALERTS, Line

    (condition,) = (each.condition for each in ALERTS if each.name == alert)
    assert isinstance(condition, Line), f"{alert} looks at figures"
    return matches(condition.filter, {"resource": {"type": "cloud_run_revision"}, "jsonPayload": line})


@contextmanager
def _recorded() -> Iterator[list[dict[str, Any]]]:
    """The lines that are logged in this process, whatever processors a test sets up for itself."""
    seen: list[dict[str, Any]] = []
    write = BoundLoggerBase._proxy_to_logger

    def recording(self: Any, method_name: str, event: str | None = None, **values: Any) -> Any:
        seen.append({**self._context, **values, "event": event or ""})
        return write(self, method_name, event, **values)

    BoundLoggerBase._proxy_to_logger = recording
    try:
        yield seen
    finally:
        BoundLoggerBase._proxy_to_logger = write


def _sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*.err")}


def _lines_since(folder: Path, before: dict[Path, int]) -> Iterator[dict[str, Any]]:
    for path in _sizes(folder):
        with path.open("rb") as file:
            file.seek(before.get(path, 0))
            for line in file:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    yield orjson.loads(line)
