"""Programs that some tests need: without one they are skipped on a developer's machine and fail in CI."""

import os

import pytest


def require(name: str, found: object) -> None:
    """Skips the test, or fails it where the environment variable CI is set, when `found` is nothing."""
    if found:
        return
    message = f"{name} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
