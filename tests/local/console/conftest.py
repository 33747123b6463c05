"""A console in this process, and a browser that is signed in to it, for the tests of its pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.console import ConsoleHere, Reader, console_here


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ConsoleHere]:
    async with console_here(tmp_path) as running:
        yield running


@pytest.fixture
async def reader(here: ConsoleHere) -> AsyncIterator[Reader]:
    async with here.reader() as signed_in:
        yield signed_in
