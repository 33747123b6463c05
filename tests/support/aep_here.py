"""The command `aep` in this process, for commands that end by themselves: a start of its own takes long."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import structlog
import typer

from aep.cli import main
from support.plain_words import check_words
from support.processes import environment

_app_for = main.app_for


@functools.cache
def _built(first: str | None) -> Any:
    """The program for arguments that begin so, built once."""
    return typer.main.get_command(_app_for([] if first is None else [first]))


@dataclass(frozen=True)
class Ended:
    """How it ended and what it printed."""

    status: int
    out: str
    err: str


def run(*arguments: str, settings: Mapping[str, str] | None = None) -> Ended:
    """`aep` with the arguments; `settings` are AEP_ variables. The log of this process stays as it is."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.object(main, "app_for", lambda given: _built(next(iter(given), None))),
        mock.patch.object(sys, "argv", ["aep", *arguments]),
        mock.patch.dict(os.environ, environment(settings or {}), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _own_log(),
        pytest.raises(SystemExit) as ended,
    ):
        main.main()
    said = _text(err)
    check_words(said)
    return Ended(int(ended.value.code or 0), _text(out), said)


@contextlib.contextmanager
def _own_log() -> Iterator[None]:
    before = structlog.get_config() if structlog.is_configured() else None
    try:
        yield
    finally:
        structlog.reset_defaults() if before is None else structlog.configure(**before)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
