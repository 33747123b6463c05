"""The lines of `aep dev` about attempts, from the platform's log: one for each, and a sentence when the app's
answer changes.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.events import catalog
from event_platform.domain.words import counted

from .dev_deliveries import Exchange

TRIES_AGAIN_AFTER = (2, 5, 10)
"""The seconds after which `aep dev` has a failed delivery tried again."""
TIMEOUT_SECONDS = 5
"""The time that the platform gives an app to answer."""
SLOW_MILLISECONDS = 2000
"""An answer that takes so long is said to be slow."""
RESUMES = "`aep trigger` resumes it"
_SHOWN_BYTES = 4096
_NO_ANSWER: Mapping[str | None, str] = {
    Reason.DESTINATION_TIMEOUT: f"Your app did not answer within {TIMEOUT_SECONDS} s",
    Reason.UNEXPECTED_EOF: "Your app closed the connection before its answer was complete",
    Reason.CONNECTION_RESET: "Your app broke the connection off",
    Reason.DESTINATION_FAILURE: "What your app answered is no HTTP, or its headers are too large",
}
"""The sentences about an app that was reached, and from which no answer came."""


class DevLines:
    """Remembers the last answer of the app, so that only a change of it is said in a sentence."""

    def __init__(self, is_verbose: bool = False) -> None:
        self._is_verbose = is_verbose
        self._last: tuple[Any, ...] = ("delivered", False)
        self._types = catalog.load()

    def lines(self, entry: Mapping[str, Any], exchange: Exchange | None = None) -> Iterator[str]:
        """Yields the lines of an entry of the log; none for those that are about something else."""
        match entry.get("event"):
            case "delivery.attempted":
                yield self._line(entry, exchange)
                if self._is_verbose and exchange is not None:
                    yield from _verbose(exchange)
                yield from self._sentence(entry)
            case "subscription.suspended":
                yield f"The platform has suspended the subscription and sends nothing more; {RESUMES}."
            case _:
                pass

    def _line(self, entry: Mapping[str, Any], exchange: Exchange | None) -> str:
        name = entry["event_type"]
        parts = [_time(entry["timestamp"]), name.removeprefix(catalog.AKENEO)]
        if exchange is not None and name in self._types:
            parts += filter(None, ["/".join(self._types[name].identity_of(exchange.event["data"]))])
        again = f" ({entry['attempt']})" if entry["attempt"] > 1 else ""
        status = entry["status"] if entry["status"] is not None else "---"
        return "  ".join([*parts, f"{status}", f"{entry['milliseconds']:.0f} ms{again}"])

    def _sentence(self, entry: Mapping[str, Any]) -> Iterator[str]:
        outcome = entry["outcome"]
        is_slow = entry["milliseconds"] >= SLOW_MILLISECONDS
        key = (outcome, is_slow)
        if outcome != "delivered":
            key = (outcome, entry["status"], entry["reason"], "retry_at" in entry)
        before, self._last = self._last, key
        if key == before:
            return
        if outcome != "delivered":
            yield f"{_answered(entry)}: {_what_follows(entry)}."
        elif is_slow:
            seconds = entry["milliseconds"] / 1000
            yield (
                f"Your app took {seconds:.1f} s to answer: after {TIMEOUT_SECONDS} s the platform stops"
                " waiting, and tries the event again."
            )
        elif before[0] != "delivered":
            yield "Your app takes events again."
        else:
            yield "Your app is no longer slow."


def said_of(found: Mapping[str, Any], receiver: str) -> str:
    """Says what came of an event at a subscription, as the API shows it."""
    if found["result"] == "not_matched":
        return f"nobody gets it: {'; '.join(found['reasons'])}"
    match found["outcome"]:
        case "delivered":
            return f"delivered to {receiver}"
        case "waiting" if attempts := found.get("attempts"):
            return f"{_answered(attempts[-1])}; `aep dev` shows when it is tried again"
        case "waiting":
            return f"no answer of {receiver} yet; `aep dev` shows it"
        case _:
            is_gone = found.get("reason") in (Reason.DESTINATION_NOT_FOUND, Reason.DESTINATION_REDIRECTED)
            gone = f" The subscription is suspended; {RESUMES}." if is_gone else ""
            return f"{_answered(found)}; the event is given up.{gone}"


def _answered(attempt: Mapping[str, Any]) -> str:
    """Says what the app answered to an attempt, as the platform's log or API shows it."""
    if (status := attempt.get("status")) is not None:
        return f"Your app answered {status}"
    if (said := _NO_ANSWER.get(reason := attempt.get("reason"))) is not None:
        return said
    words = [(reason or "no answer").replace("_", " "), attempt.get("detail")]
    return f"Your app was not reached ({', '.join(dict.fromkeys(filter(None, words)))})"


def _what_follows(entry: Mapping[str, Any]) -> str:
    match entry["outcome"]:
        case "suspending":
            return "for the platform the endpoint is gone, and the event is given up"
        case "throttled" if "retry_at" in entry:
            at = _time(entry["retry_at"])
            now = "at once" if at <= _time(entry["timestamp"]) else f"at {at}"
            return f"the platform tries the event again {now} and for an hour, and sends more slowly"
        case _ if "retry_at" in entry:
            at, retries = _time(entry["retry_at"]), counted(len(TRIES_AGAIN_AFTER), "failed retry")
            return f"the platform tries the event again at {at}; after {retries} it gives the event up"
        case _:
            return "the platform gives the event up"


def _verbose(exchange: Exchange) -> Iterator[str]:
    """Yields the request to the app and its answer, indented."""
    yield f"    > POST {exchange.url}"
    for name, value in exchange.headers:
        yield f"    > {name}: {value}"
    body = orjson.dumps(exchange.event, option=orjson.OPT_INDENT_2).decode()
    yield from (f"    > {line}" for line in _beginning(body).split("\n"))
    if exchange.answer is not None:
        yield f"    < {exchange.answer.status}"
        for name, value in exchange.answer.headers.items():
            yield f"    < {name}: {value}"
        said = _beginning(exchange.answer.body.decode(errors="replace"))
        yield from (f"    < {line}" for line in said.splitlines())


def _beginning(body: str) -> str:
    return body if len(body) <= _SHOWN_BYTES else f"{body[:_SHOWN_BYTES]} …"


def _time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%H:%M:%S}"
