"""Lines of what went well that share an entry of Cloud Logging, where each entry costs as much as its text.

An instance keeps such lines for a second and writes those that are alike as one. While no request is open it
has no CPU, so what is kept is written before the last open one is answered.
"""

import asyncio
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .domain.attempts.outcomes import Kind
from .telemetry import line_of

KEPT_SECONDS = 1.0
TEXT_AT_MOST = 20_000
"""The characters of an entry, unless one line has more. Google takes 256 KiB of it:
https://cloud.google.com/logging/quotas"""
KEPT_AT_MOST = 200_000
"""The characters of all entries, with which they are written."""
_ITEM_AROUND, _ENTRY_AROUND = 10, 200


@dataclass(frozen=True, slots=True)
class Form:
    """The entry for several lines of an event; those whose fields `same` are equal share one.

    `count` is its field with the number of lines. Of the other fields of a line, `added` are summed, `joined`
    are lists side by side, of which the entry has one each, and `listed` becomes such a list by another name.
    """

    event: str
    count: str
    same: Sequence[str]
    added: Sequence[str] = ()
    joined: Sequence[str] = ()
    listed: Mapping[str, str] = field(default_factory=dict[str, str])

    def takes(self, line: Mapping[str, Any]) -> bool:
        """True if the entry would have all that the line says, and the line is about what went well."""
        names = (*self.same, *self.added, *self.joined, *self.listed)
        went_well = line.get("outcome", Kind.DELIVERED) == Kind.DELIVERED
        return went_well and all(name == "event" or name in names for name in line)

    def items(self, line: Mapping[str, Any]) -> int:
        """Returns how many items the line adds to each list."""
        return len(line.get(self.joined[-1], ())) if self.joined else 1

    def length(self, line: Mapping[str, Any]) -> int:
        """Returns about how many characters the line adds."""
        of_each = _ITEM_AROUND + sum(_length(line.get(name)) for name in self.listed)
        return self.items(line) * of_each + sum(_length(line.get(name)) for name in self.joined)


FORMS: Mapping[str, Form] = {
    "events.accepted": Form(
        "events.accepted", "calls", ("tenant", "way"), added=("events",), joined=("event_ids",)
    ),
    "events.fanned_out": Form(
        "events.fanned_out",
        "messages",
        (),
        added=("events", "deliveries"),
        joined=("event_ids", "event_types", "entities", "subscriptions"),
        listed={"tenant": "tenants", "accepted_at": "accepted_at"},
    ),
    "delivery.attempted": Form(
        "deliveries.arrived",
        "deliveries",
        ("event_type", "attempt", "outcome", "reason", "status", "replay_id"),
        listed={
            "event_id": "event_ids",
            "subscription_id": "subscription_ids",
            "milliseconds": "milliseconds",
        },
    ),
}
"""The events whose lines share entries."""


@dataclass(slots=True)
class _Entry:
    form: Form
    since: datetime
    fields: dict[str, Any]
    after: list[int] = field(default_factory=list[int])
    text: int = _ENTRY_AROUND
    """About how many characters it has."""

    def add(self, line: Mapping[str, Any], now: datetime) -> None:
        fields, form = self.fields, self.form
        items = form.items(line)
        fields[form.count] += 1
        for name in form.added:
            fields[name] += line.get(name, 0)
        for name in form.joined:
            fields[name] += line.get(name, ())
        for name, list_name in form.listed.items():
            fields[list_name] += [line.get(name)] * items
        self.after += [round((now - self.since).total_seconds() * 1000)] * items


class SharedLines:
    """The lines that are kept: a processor of structlog. Used in the event loop only."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._entries: dict[tuple[Any, ...], _Entry] = {}
        self._text = 0
        self._logger: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered = 0

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Takes a line that shares an entry; returns every other one."""
        form = FORMS.get(event["event"])
        if form is None or method != "info" or not form.takes(event):
            return event
        self._logger = logger
        self._keep(form, event)
        if self._unanswered == 0 or self._text >= KEPT_AT_MOST:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self.write)
        raise structlog.DropEvent

    def write(self) -> None:
        """Writes what is kept."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries, self._text = self._entries, {}, 0
        for entry in entries.values():
            self._write(entry)

    def _write(self, entry: _Entry) -> None:
        fields = {"event": entry.form.event, **entry.fields, "since": entry.since.isoformat()}
        self._logger.info(line_of(self._logger, "info", {**fields, "after": entry.after}))

    def written_before_answers(self, app: ASGIApp) -> ASGIApp:
        """The app, for whose last open request all is written before the answer goes out."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            self._unanswered += 1
            is_open = True

            def close() -> None:
                nonlocal is_open
                if is_open:
                    is_open = False
                    self._unanswered -= 1
                    if self._unanswered == 0:
                        self.write()

            async def answer(message: Message) -> None:
                close()
                await send(message)

            try:
                await app(scope, receive, answer)
            finally:
                close()

        return serve

    def _keep(self, form: Form, line: Mapping[str, Any]) -> None:
        now, length = self._now(), form.length(line)
        key = (form.event, *map(line.get, form.same))
        entry = self._entries.get(key)
        if entry is not None and entry.text + length > TEXT_AT_MOST:
            self._text -= entry.text
            self._write(self._entries.pop(key))
            entry = None
        if entry is None:
            fields: dict[str, Any] = {name: line[name] for name in form.same if name in line}
            fields |= dict.fromkeys((form.count, *form.added), 0)
            fields |= {name: [] for name in (*form.joined, *form.listed.values())}
            entry = self._entries[key] = _Entry(form, now, fields)
            self._text += entry.text
        entry.add(line, now)
        entry.text += length
        self._text += length


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(map(_length, value)) if isinstance(value, list) else 8
