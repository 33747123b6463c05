"""What all tests share."""

import pytest
import structlog

pytest_plugins = ["emulator_fixtures", "kafka_broker"]

pytest.register_assert_rewrite("contract", "main_path")

# Plain lines: rich's tracebacks take longer than the tests.
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=str)]
)
