"""Programs that some tests need: without one they are skipped on a developer's machine and fail in CI.

A CI that cannot have a program names it in CI_WITHOUT, separated by commas.
"""

import os
import shutil

import pytest


def require(name: str, found: object) -> None:
    """Skips the test, or fails it where the environment variable CI is set, when `found` is nothing."""
    if found:
        return
    message = f"{name} is not installed"
    without = filter(None, os.environ.get("CI_WITHOUT", "").split(","))
    if os.environ.get("CI") and not any(program in name for program in without):
        pytest.fail(message)
    pytest.skip(message)


def required(program: str) -> str:
    """Returns the path of a program; without it the test is skipped, or fails in CI."""
    require(program, found := shutil.which(program))
    assert found is not None
    return found


def optional(program: str) -> str:
    """Returns the path of a program that CI need not have; skips the test, with its name, where it is not."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found
