"""What all tests share."""

import signal

import pytest
import structlog

pytest_plugins = ["emulator_fixtures", "kafka_broker", "cpu_watchdog"]

pytest.register_assert_rewrite("contract", "main_path")

# Plain lines: rich's tracebacks take longer than the tests.
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=str)]
)

# A shell's background job ignores SIGINT, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
