"""What all tests share."""

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from weakref import WeakValueDictionary

import pytest
import structlog

from event_platform.domain.filters import closures, parse
from event_platform.domain.filters.syntax import Node

pytest_plugins = [
    "support.embedded",
    "support.emulator_fixtures",
    "support.kafka_broker",
    "support.cpu_watchdog",
    "support.log_events",
    "support.plain_words",
    "support.side_by_side",
]

pytest.register_assert_rewrite("contract", "support")

# Plain lines: rich's tracebacks take longer than the tests.
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=str)]
)

# Lists are laid out for a width that is told; pytest-xdist tells its processes one.
os.environ.pop("COLUMNS", None)

# A shell's background job ignores SIGINT, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Shows what the order of sets follows in this run."""
    return f"PYTHONHASHSEED={os.environ.get('PYTHONHASHSEED', 'random')}"


# What is imported and collected is there for good: to look for garbage among it takes a fifth of the time.
gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Has the garbage collector look no more at what is there for good: modules, and the tests themselves."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def log_configuration() -> Iterator[None]:
    """Puts the configuration of the log back, which commands that run in this process set."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each filter is compiled."""
    counted: Counter[str] = Counter()

    def counting(expression: str) -> Node:
        counted[expression] += 1
        return parse(expression)

    monkeypatch.setattr(closures, "_compiled_before", WeakValueDictionary())
    monkeypatch.setattr(closures, "parse", counting)
    return counted
