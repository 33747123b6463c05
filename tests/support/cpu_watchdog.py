"""Finds callbacks of an event loop that take too much CPU, in the tests' own loop and in `aep serve`.

As a plugin of pytest it times every callback of asyncio's loop in this process, and fails the test during
which one of the product's took more than `LIMIT_SECONDS`. `watched_aep.py` does the same for uvloop in a
process of its own, and writes what it finds to a file that `processes.py` reads.
"""

import asyncio
import gc
import os
import sys
import threading
import time
from asyncio import events
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

BOUND_SECONDS = 0.020
"""CPU of the thread that one callback may take on a machine that does nothing else."""
LIMIT_SECONDS = 2.5 * BOUND_SECONDS
"""CPU at which a test fails. Other programs on the same cores make the same work up to twice as dear."""

_TESTS = str(Path(__file__).parents[1]) + os.sep
_RUNNERS = ("/pytest_asyncio/", "/_pytest/", "/hypothesis/")


class _Excused(threading.local):
    """CPU seconds of this thread that count for no callback: those of the garbage collector."""

    seconds = 0.0
    began = 0.0


_excused = _Excused()
_found: list[str] = []
"""Overruns since the phase of a test began, a line each."""


def excuse_garbage_collection() -> None:
    """Leaves the garbage collector out: when it runs depends on all that ran before."""

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            _excused.began = time.thread_time()
        else:
            _excused.seconds += time.thread_time() - _excused.began

    gc.callbacks.append(note)


class Stopwatch:
    """Measures the CPU of one callback of this thread, from when it is made."""

    __slots__ = ("_began", "_excused", "_modules")

    def __init__(self) -> None:
        self._modules = len(sys.modules)
        self._excused = _excused.seconds
        self._began = time.thread_time()

    def overrun(self) -> float | None:
        """CPU seconds, if they are more than the limit.

        None also for a callback that imported a module: that happens once in a process.
        """
        seconds = time.thread_time() - self._began - (_excused.seconds - self._excused)
        return seconds if seconds > LIMIT_SECONDS and len(sys.modules) == self._modules else None


def name_of(callback: Any) -> str:
    """A callback as a person finds it in the code: a task by its coroutine, a transport by its protocol."""
    task = _task_of(callback)
    if task is not None:
        return f"task {getattr(task.get_coro(), '__qualname__', task.get_name())}{_place(_code_of(callback))}"
    protocol = _protocol_of(callback)
    of = f" of {type(protocol).__module__}.{type(protocol).__qualname__}" if protocol is not None else ""
    plain = _without_arguments(callback)
    return f"{getattr(plain, '__qualname__', repr(plain))}{of}{_place(_code_of(callback))}"


def is_of_a_test(callback: Any) -> bool:
    """True for the coroutines, servers and doubles of the tests themselves.

    The product's code that a test awaits directly runs in the test's task: that counts as the test's.
    """
    protocol = _protocol_of(callback)
    if protocol is not None and _task_of(callback) is None:
        module = sys.modules.get(type(protocol).__module__)
        return str(getattr(module, "__file__", None)).startswith(_TESTS)
    code = _code_of(callback)
    if code is None:
        return False
    return code.co_filename.startswith(_TESTS) or any(part in code.co_filename for part in _RUNNERS)


def _task_of(callback: Any) -> "asyncio.Task[Any] | None":
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def _protocol_of(callback: Any) -> Any:
    """The protocol that a transport of asyncio feeds, the application's where TLS is between."""
    protocol = getattr(getattr(callback, "__self__", None), "_protocol", None)
    return getattr(protocol, "_app_protocol", protocol)


def _code_of(callback: Any) -> CodeType | None:
    task = _task_of(callback)
    if task is not None:
        return getattr(task.get_coro(), "cr_code", None)
    return getattr(_without_arguments(callback), "__code__", None)


def _without_arguments(callback: Any) -> Any:
    while isinstance(callback, partial):
        callback = callback.func
    return callback


def _place(code: CodeType | None) -> str:
    return f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""


def told(callback: Any, seconds: float) -> str:
    """An overrun in one line."""
    return f"{name_of(callback)} took {seconds * 1000:.0f} ms of CPU"


def _run_timed(handle: events.Handle) -> None:
    callback, stopwatch = handle._callback, Stopwatch()  # pyright: ignore[reportAttributeAccessIssue]
    _run(handle)
    seconds = stopwatch.overrun()
    if seconds is not None and not is_of_a_test(callback):
        _found.append(told(callback, seconds))


_run = events.Handle._run


def taken() -> list[str]:
    """The overruns since the phase of the test began, or since they were last taken."""
    found, _found[:] = _found[:], []
    return found


def fail_for(found: Sequence[str]) -> None:
    """Fails the test when callbacks took too much CPU."""
    if found:
        limit = f"{LIMIT_SECONDS * 1000:.0f} ms"
        text = "\n".join(found)
        pytest.fail(f"callbacks of the event loop took more than {limit} of CPU:\n{text}", pytrace=False)


def pytest_configure() -> None:
    """Watches every asyncio loop of this process."""
    excuse_garbage_collection()
    events.Handle._run = _run_timed  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    """Watches no longer."""
    events.Handle._run = _run  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    """Fails a test for what its fixtures started."""
    return (yield from _checked())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Fails a test for what it did."""
    return (yield from _checked())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    """Fails a test for what its fixtures ended with."""
    return (yield from _checked())


def _checked() -> Generator[None, Any, Any]:
    """Runs a phase of a test, and fails it for what was found; not under coverage, which costs CPU."""
    _found.clear()
    result = yield
    if "COVERAGE_RUN" not in os.environ:
        fail_for(taken())
    return result
