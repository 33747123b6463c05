"""Log lines that a person reads: time, level, event and fields, in colour on a terminal."""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, Literal

from event_platform import telemetry

LogFormat = Literal["json", "text"]

STDERR = 2
EVENT_WIDTH = 22
"""Shorter names are filled up, so that fields stand below each other."""
SHOWN: Mapping[str, Sequence[str]] = {
    "delivery.attempted": (
        "outcome",
        "status",
        "reason",
        "detail",
        "milliseconds",
        "retry_at",
        "event_type",
        "event_id",
        "subscription_id",
    ),
    "events.accepted": ("events", "way", "tenant"),
}
"""The fields of events that come often, the first to be read first. Of all others each field is shown."""
_BEFORE_NAME = len("12:00:00  warning   ")
_INDENT = "\n    "
LAST = ("exception", "fix")
"""Fields that have lines of their own."""
COLOURS: Mapping[str, str] = {
    "DEBUG": "2",
    "INFO": "32",
    "WARNING": "33",
    "ERROR": "31",
    "CRITICAL": "1;31",
}
"""The codes of the terminal (ECMA-48, SGR)."""
DIM = "2"


def choose_format(asked: LogFormat | None, descriptor: int = STDERR) -> LogFormat:
    """Returns the format that was asked for; else text on a terminal and JSON elsewhere."""
    if asked is not None:
        return asked
    return "text" if os.isatty(descriptor) else "json"


def renderer(log_format: LogFormat | None, descriptor: int = STDERR) -> telemetry.Render | None:
    """Returns what makes a line of an event; None for the usual JSON."""
    if choose_format(log_format, descriptor) == "json":
        return None
    coloured = os.isatty(descriptor) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if not os.isatty(descriptor):
        return lambda event: to_text(event, coloured=coloured)
    return lambda event: to_text(event, coloured=coloured, width=_columns(descriptor))


def _columns(descriptor: int) -> int | None:
    """Returns the width of the terminal, which may be another one by now; None if it says none."""
    try:
        return os.get_terminal_size(descriptor).columns or None
    except OSError:
        return None


def renderer_of_commands() -> telemetry.Render | None:
    """Returns the same for a command that reads no settings. A wrong AEP_LOG_FORMAT counts as none."""
    asked = os.environ.get("AEP_LOG_FORMAT")
    return renderer("json" if asked == "json" else "text" if asked == "text" else None)


def to_text(event: MutableMapping[str, Any], *, coloured: bool, width: int | None = None) -> bytes:
    """Returns the line of an event that is complete, without the line break at its end.

    No text from outside can move the cursor. Nothing is cut: with a width a field that does not fit begins a
    line.
    """
    at: datetime = event.pop("timestamp")
    level, name = str(event.pop("severity")), str(event.pop("event"))
    fields = SHOWN.get(name, [field for field in event if field not in LAST])
    parts = [f"{field}={_word(event[field])}" for field in fields if _has_value(event.get(field))]
    line = "  ".join(
        (
            _styled(f"{at.astimezone():%H:%M:%S}", DIM, coloured=coloured),
            _styled(f"{level.lower():8}", COLOURS.get(level, ""), coloured=coloured),
            f"{_safe(name):{EVENT_WIDTH}}" if parts else _safe(name),
        )
    )
    if parts:
        taken = _BEFORE_NAME + max(len(_safe(name)), EVENT_WIDTH)
        line += _in_lines(parts, "  ", taken, width)
    for field in LAST:
        if text := event.get(field):
            for each in str(text).split("\n"):
                words = [_safe(each)] if field == "exception" else _safe(each).split(" ")
                line += _INDENT + _in_lines(words, "", len(_INDENT) - 1, width)
    return line.encode()


def _in_lines(parts: Sequence[str], gap: str, taken: int, width: int | None) -> str:
    """Returns the parts with spaces between them, the first after the gap; `taken` columns are before it."""
    if width is None:
        return gap + " ".join(parts)
    found = ""
    for part in parts:
        if taken + len(gap) + len(part) > width and taken >= len(_INDENT):
            found += _INDENT + part
            taken = len(_INDENT) - 1 + len(part)
        else:
            found += gap + part
            taken += len(gap) + len(part)
        gap = " "
    return found


def _has_value(value: object) -> bool:
    return value is not None and value != "" and value != []


def _word(value: Any) -> str:
    """Returns the value as one word where it can be, else as JSON."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and not set(' "\\') & set(value):
        return value
    return telemetry.to_json(value, default=repr).decode()


def _safe(text: str) -> str:
    """Returns the text with each character that is not printable escaped."""
    if text.isascii() and text.isprintable():
        return text
    return telemetry.to_json(text).decode()[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _styled(text: str, code: str, *, coloured: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if coloured and code else text
