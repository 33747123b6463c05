"""The marker `provokes`: a test that bears it must have the program write these events to its log.

    @pytest.mark.provokes("delivery.ended")

Whoever marks a test without provoking the event sees it fail. Lines of this process count, and those that
commands which the test started wrote to their standard error.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog import BoundLoggerBase


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Runs the test, and fails it if an event of its markers was not logged meanwhile."""
    expected = {name for marker in item.iter_markers("provokes") for name in marker.args}
    if not expected:
        return (yield)
    folder = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    before = _sizes(folder)
    with _recorded() as seen:
        result = yield
    missing = expected - seen - set(_events_since(folder, before))
    assert not missing, f"the test is marked with events that nothing logged while it ran: {missing}"
    return result


@contextmanager
def _recorded() -> Iterator[set[str]]:
    """The events that are logged in this process, whatever processors a test sets up for itself."""
    seen: set[str] = set()
    write = BoundLoggerBase._proxy_to_logger

    def recording(self: Any, method_name: str, event: str | None = None, **values: Any) -> Any:
        seen.add(event or "")
        return write(self, method_name, event, **values)

    BoundLoggerBase._proxy_to_logger = recording
    try:
        yield seen
    finally:
        BoundLoggerBase._proxy_to_logger = write


def _sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*.err")}


def _events_since(folder: Path, before: dict[Path, int]) -> Iterator[str]:
    for path in _sizes(folder):
        with path.open("rb") as file:
            file.seek(before.get(path, 0))
            for line in file:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    yield orjson.loads(line).get("event", "")
