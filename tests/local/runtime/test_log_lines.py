"""Lines are gathered for a moment and written by a thread, and none is torn or out of order."""

import asyncio
import io
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import structlog

from aep.runtime.log_lines import GATHERED_BYTES, WAITING_BYTES, BackgroundFile, GatheredLines, as_text
from support.full_pipe import ROOM, fill, read_all


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
    lines = GatheredLines(file.write)
    lines.info(b"one")
    lines.info(b"two")
    assert file.getvalue() == b""
    (write,) = loop.later
    write()
    assert file.getvalue() == b"one\ntwo\n"


def test_a_grave_line_is_written_at_once_behind_those_that_came_before(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file.write)
    lines.info(b"one")
    lines.error(b"two")
    assert file.getvalue() == b"one\ntwo\n"


def test_many_lines_are_not_kept(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file.write)
    lines.info(b"x" * GATHERED_BYTES)
    assert len(file.getvalue()) == GATHERED_BYTES + 1


def test_after_a_write_lines_are_gathered_again(loop: TimedLoop) -> None:
    file = io.BytesIO()
    lines = GatheredLines(file.write)
    lines.info(b"one")
    loop.later.pop()()
    lines.info(b"two")
    loop.later.pop()()
    assert file.getvalue() == b"one\ntwo\n"


def test_without_an_event_loop_lines_are_written_at_once() -> None:
    file = io.BytesIO()
    GatheredLines(file.write).info(b"one")
    assert file.getvalue() == b"one\n"


# The thread


@dataclass
class Pipe:
    """A pipe with room for ROOM bytes, and the file that a thread writes to it."""

    reading: int
    writing: int
    file: BackgroundFile

    def read(self, size: int) -> bytes:
        """So many bytes, which the thread still has to write; fails the test when they do not come."""
        found = b""
        while len(found) < size:
            assert select.select([self.reading], [], [], 10)[0], found[-200:]
            found += os.read(self.reading, size - len(found))
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    fill(writing)
    yield Pipe(reading, writing, BackgroundFile(writing, "stderr"))
    read_all(reading)  # so that the thread waits for the next lines and for nothing else
    os.close(reading)


@pytest.fixture
def logged(pipe: Pipe) -> Iterator[None]:
    """The log goes to the pipe, and to nothing else."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(serializer=lambda event, **_: repr(event).encode())],
        logger_factory=lambda *_: GatheredLines(pipe.file.write),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.configure(**before)


def test_nobody_waits_for_a_reader_and_all_arrives_in_order_when_there_is_one(pipe: Pipe) -> None:
    lines = [b"%d\n" % number for number in range(1000)]
    for line in lines:
        assert pipe.file.write(line) == len(line)
    assert not pipe.file.drain(0)
    assert pipe.read(ROOM) == b"x" * ROOM
    assert pipe.read(len(b"".join(lines))) == b"".join(lines)
    assert pipe.file.drain(10)


@pytest.mark.usefixtures("logged")
def test_what_does_not_fit_is_dropped_and_counted_in_one_line_when_the_rest_is_written(pipe: Pipe) -> None:
    line = b"y" * 1023 + b"\n"
    kept = WAITING_BYTES // len(line)
    for _ in range(kept + 7):
        pipe.file.write(line)
    pipe.file.write(b"two\nlines\n")
    assert pipe.read(ROOM + kept * len(line)).count(b"\n") == kept
    said = b"{'count': 9, 'stream': 'stderr', 'event': 'log.lines_dropped'}\n"
    assert pipe.read(len(said)) == said
    pipe.file.write(b"later\n")
    assert pipe.read(6) == b"later\n"


def test_a_line_that_is_longer_than_the_room_is_written_when_nothing_waits(pipe: Pipe) -> None:
    line = b"z" * (2 * WAITING_BYTES) + b"\n"
    pipe.file.write(line)
    assert pipe.read(ROOM + len(line))[ROOM:] == line


def test_who_logs_goes_on_when_nobody_reads_the_log_any_more() -> None:
    reading, writing = os.pipe()
    file = BackgroundFile(writing, "stderr")
    os.close(reading)
    lines = GatheredLines(file.write)
    lines.info(b"one")
    lines.error(b"two")
    assert file.drain(10)
    lines.error(b"three")
    assert file.drain(10)
    os.close(writing)


@pytest.mark.provokes("log.lines_dropped")
@pytest.mark.usefixtures("logged")
def test_lines_that_a_full_disk_does_not_take_are_counted_when_there_is_room_again(pipe: Pipe) -> None:
    with_room = os.dup(pipe.writing)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, pipe.writing)
    for _ in range(3):
        pipe.file.write(b"lost\n")
        assert pipe.file.drain(10)
    os.dup2(with_room, pipe.writing)
    pipe.file.write(b"kept\n")
    said = b"kept\n{'count': 3, 'stream': 'stderr', 'event': 'log.lines_dropped'}\n"
    assert pipe.read(ROOM + len(said))[ROOM:] == said


def test_a_file_that_somebody_made_non_blocking_gets_all(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    line = b"w" * (3 * ROOM) + b"\n"
    pipe.file.write(line)
    assert pipe.read(ROOM + len(line))[ROOM:] == line


def test_what_is_printed_goes_the_same_way(pipe: Pipe) -> None:
    print("one \ud800", file=as_text(pipe.file))
    assert pipe.read(ROOM + 11)[ROOM:] == b"one \\ud800\n"


def test_one_file_waits_for_what_was_written_to_another_before(pipe: Pipe) -> None:
    reading, writing = os.pipe()
    after = BackgroundFile(writing, "stdout", after=pipe.file)
    pipe.file.write(b"logged\n")
    after.write(b"ready\n")
    assert pipe.read(ROOM + 7)[ROOM:] == b"logged\n"
    assert os.read(reading, 6) == b"ready\n"
