"""Logs of tests are plain lines: rich's tracebacks take longer than the tests."""

import structlog

structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=str)]
)
