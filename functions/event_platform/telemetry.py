"""Structured logs: one JSON object a line on standard error, with ids, without payloads or secrets."""

import io
import json
import logging
import sys
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

from .domain.events import json_form

Render = Callable[[MutableMapping[str, Any]], bytes]
"""Makes a line of an event that has its level and its time."""


def configure(
    level: str, lines: Any = None, render: Render | None = None, first: Sequence[Processor] = ()
) -> None:
    """Sends our events and those of the libraries through one formatter. `level` as in AEP_LOG_LEVEL.

    Ours go to `lines`, a logger as structlog calls one with bytes; unless given, each is written at once. A
    line is JSON unless `render` makes another one. `first` have an event before it is a line.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*first, *_processors(render)],
        wrapper_class=_bound_logger(number),
        logger_factory=lambda *_: lines or structlog.BytesLogger(standard_error().buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(standard_error())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_completed, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda logger, method, event: (render or _dumps)(event).decode(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def configure_of_commands(render: Render | None = None) -> None:
    """Sends warnings and errors of a command to standard error: its output is what it was asked for.

    A line is JSON unless `render` makes another one. The stream is looked up for each line, and no logger is
    kept, as several commands may run in a process.
    """
    structlog.configure(
        processors=_processors(render),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.BytesLogger(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )


def standard_error() -> TextIO:
    """`sys.stderr`, made to write all that it is given: with PYTHONUNBUFFERED it may write but a part."""
    if isinstance(sys.stderr.buffer, io.RawIOBase):
        sys.stderr = open(  # noqa: SIM115 - open as long as we are
            sys.stderr.fileno(), "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
    return sys.stderr


def printable_json(line: bytes) -> bytes:
    """JSON text with every character that is not printable escaped: a terminal would obey some of them.

    The JSON serialiser escapes those of ASCII but for DEL, and none of the others.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in line.decode()
    ).encode()


def to_json(value: Any, option: int = 0, **more: Any) -> bytes:
    """`printable_json` of a value, with U+FFFD for each half of a surrogate pair.

    Such halves may come with an event, and are no text that a reader of UTF-8 takes.
    """
    try:
        text = orjson.dumps(value, option=option, **more)
    except orjson.JSONEncodeError:
        text = orjson.dumps(json_form.replace_lone_surrogates(value), option=option, **more)
    return printable_json(text)


def _bound_logger(level: int) -> type[Any]:
    """Returns structlog's class of loggers of the level, without its steps for what is in our lines."""
    usual: type[Any] = structlog.make_filtering_bound_logger(level)
    if level > logging.INFO:
        return usual

    class BoundLogger(usual):
        def info(self, event: str, *arguments: Any, **fields: Any) -> Any:
            if arguments or self._context or self._processors[0] is not line_of:
                return super().info(event, *arguments, **fields)
            fields["event"] = event
            return self._logger.info(line_of(self._logger, "info", fields))

    return BoundLogger


def line_of(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    """The one processor of our own events: each step of structlog's costs as much as the whole of ours.

    Does what `to_json` does, with fewer steps for a usual line: there is one for each delivery.
    """
    event = _completed(logger, method, event)
    try:
        line = orjson.dumps(event, repr, orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:
        return _dumps(event)
    return line if line.isascii() and b"\x7f" not in line else printable_json(line)


def _processors(render: Render | None) -> list[Any]:
    return [line_of] if render is None else [_completed, lambda logger, method, event: render(event)]


def _dumps(event: Any) -> bytes:
    return to_json(event, orjson.OPT_UTC_Z, default=repr)


_SEVERITIES = {"info": "INFO", "warn": "WARNING", "exception": "ERROR"}


def _completed(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the level, under the name and with the values that Cloud Logging reads (LogSeverity), and the
    moment in UTC, which is written as RFC 3339. Puts an exception into words."""
    event["severity"] = _SEVERITIES.get(method) or method.upper()
    event["timestamp"] = datetime.now(UTC)
    return structlog.processors.format_exc_info(logger, method, event) if "exc_info" in event else event
