"""What all tests share."""

import signal
from collections import Counter
from weakref import WeakValueDictionary

import pytest
import structlog

from event_platform.domain.filters import matching, parse
from event_platform.domain.filters.syntax import Node

pytest_plugins = ["emulator_fixtures", "kafka_broker", "cpu_watchdog", "log_events", "plain_words"]

pytest.register_assert_rewrite("contract", "main_path")

# Plain lines: rich's tracebacks take longer than the tests.
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=str)]
)

# A shell's background job ignores SIGINT, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each filter is compiled."""
    counted: Counter[str] = Counter()

    def counting(expression: str) -> Node:
        counted[expression] += 1
        return parse(expression)

    monkeypatch.setattr(matching, "_compiled_before", WeakValueDictionary())
    monkeypatch.setattr(matching, "parse", counting)
    return counted
