"""A function whose instance got no CPU between two requests, as Cloud Run has it, answers the next ones."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from aep.google.functions_on_emulators import FUNCTIONS, Function
from support.lone_functions import functions, start, stopped_in_the_end

LIMIT_SECONDS = 2
"""What Google writes into CLOUD_RUN_TIMEOUT_SECONDS is the function's own, 60 s and more."""
FROZEN_SECONDS = 2 * LIMIT_SECONDS
AWAKE_SECONDS = 2.5
"""The time that a request takes here: the framework looks for workers without a heartbeat each second."""
ANSWER_SECONDS = 60.0
BEGINNING, REST = b"GET /health HTTP/1.1\r\nHost: function\r\n", b"Connection: close\r\n\r\n"


class Request:
    """A request of which the beginning wakes the function, and the rest comes later."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls, function: Function) -> "Request":
        begun = cls(*await asyncio.open_connection("127.0.0.1", function.port))
        await begun._send(BEGINNING)
        return begun

    async def finish(self) -> str:
        """Returns the status line of the answer, or what came instead of one."""
        try:
            await self._send(REST)
            line = await asyncio.wait_for(self._reader.readline(), ANSWER_SECONDS)
        except ConnectionError as error:
            return type(error).__name__
        finally:
            self._writer.close()
        return line.decode().strip() or "closed"

    async def _send(self, part: bytes) -> None:
        self._writer.write(part)
        await self._writer.drain()


async def woken(function: Function) -> list[str]:
    """Freezes the function for longer than its limit; three requests wake it at once."""
    assert function.child is not None
    group = function.child.pid
    os.killpg(group, signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    begun = [await Request.begin(function) for _ in range(3)]
    os.killpg(group, signal.SIGCONT)
    await asyncio.sleep(AWAKE_SECONDS)
    return list(await asyncio.gather(*(request.finish() for request in begun)))


@pytest.mark.full
@pytest.mark.timeout(240)
async def test_a_function_that_was_frozen_answers_those_who_wake_it(tmp_path: Path) -> None:
    six = functions(tmp_path, {"CLOUD_RUN_TIMEOUT_SECONDS": str(LIMIT_SECONDS)})
    async with stopped_in_the_end(six):
        await start(six)
        answers = await asyncio.gather(*map(woken, six))
    answered = dict(zip(FUNCTIONS, answers, strict=True))
    assert answered == dict.fromkeys(FUNCTIONS, ["HTTP/1.1 200 OK"] * 3)
