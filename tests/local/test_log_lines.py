"""Lines are gathered for a moment, and none is lost, torn or out of order."""

import asyncio
import io
import os
from collections.abc import Callable

import pytest

from aep.log_lines import GATHERED_BYTES, GatheredLines


class TimedLoop:
    """Stands for the running loop: keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _: float, call: Callable[[], None]) -> None:
        self.later.append(call)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> TimedLoop:
    loop = TimedLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_lines_are_written_together_a_moment_later(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file)
    lines.info(b"one")
    lines.info(b"two")
    assert file.getvalue() == b""
    (write,) = loop.later
    write()
    assert file.getvalue() == b"one\ntwo\n"


def test_a_grave_line_is_written_at_once_behind_those_that_came_before(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file)
    lines.info(b"one")
    lines.error(b"two")
    assert file.getvalue() == b"one\ntwo\n"


def test_many_lines_are_not_kept(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file)
    lines.info(b"x" * GATHERED_BYTES)
    assert len(file.getvalue()) == GATHERED_BYTES + 1


def test_after_a_write_lines_are_gathered_again(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file)
    lines.info(b"one")
    loop.later.pop()()
    lines.info(b"two")
    loop.later.pop()()
    assert file.getvalue() == b"one\ntwo\n"


def test_without_an_event_loop_lines_are_written_at_once() -> None:
    file = io.BytesIO()
    GatheredLines(file).info(b"one")
    assert file.getvalue() == b"one\n"


def test_who_logs_goes_on_when_nobody_reads_the_log_any_more() -> None:
    reading, writing = os.pipe()
    file = os.fdopen(writing, "wb")
    lines = GatheredLines(file)
    os.close(reading)
    lines.info(b"one")
    lines.error(b"two")
    with pytest.raises(BrokenPipeError):
        file.close()  # it kept what it could not write
