"""The bench's own processes: a conversation of JSON lines over standard input and output.

The parent side is `Worker`. A worker's module reads its orders with `hear` and answers with `say`; it ends
when its standard input does, so none outlives the bench.
"""

import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from .errors import BenchFailed

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """A process of `python -m MODULE` with an order to begin with. Use as a context manager.

    `within` is a command that starts it.
    """

    def __init__(self, module: str, order: dict[str, Any], *, within: Sequence[str] = ()) -> None:
        self._module = module
        command = [*within, sys.executable, "-m", module]
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self.pid = self._process.pid
        self.send(order)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def send(self, order: Any) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for as a pipe
        try:
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchFailed(f"{self._module} ended before its time") from None

    def answer(self, *, within: float = 60) -> Any:
        """Returns the worker's next answer.

        Raises BenchFailed when it ends, or gives none for `within` seconds.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was asked for as a pipe
        if not select.select([self._process.stdout], [], [], within)[0]:
            raise BenchFailed(f"{self._module} said nothing for {within:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"{self._module} ended before its time")
        return orjson.loads(line)

    def ask(self, order: Any, *, within: float = 60) -> Any:
        self.send(order)
        return self.answer(within=within)


def hear() -> Any:
    """Returns the next order, in a worker. Raises SystemExit when the bench has ended."""
    line = sys.stdin.buffer.readline()
    if not line:
        raise SystemExit(0)
    return orjson.loads(line)


def say(answer: Any) -> None:
    """Answers the bench, in a worker."""
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:  # unbuffered, stdout may write but a part
        output.write(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS) + b"\n")
