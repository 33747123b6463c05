"""The lines of `aep dev` about attempts, from the platform's log: one for each, and a sentence when the app's
answer changes.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from event_platform.domain.words import counted

TRIES_AGAIN_AFTER = (2, 5, 10)
"""The seconds after which `aep dev` has a failed delivery tried again."""
RESUMES = "`aep trigger` resumes it"


class DevLines:
    """Remembers the last answer of the app, so that only a change of it is said in a sentence."""

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ("delivered",)

    def lines(self, entry: Mapping[str, Any]) -> Iterator[str]:
        """Yields the lines of an entry of the log; none for those that are about something else."""
        match entry.get("event"):
            case "delivery.attempted":
                yield _line(entry)
                yield from self._sentence(entry)
            case "subscription.suspended":
                yield f"The platform has suspended the subscription and sends nothing more; {RESUMES}."
            case _:
                pass

    def _sentence(self, entry: Mapping[str, Any]) -> Iterator[str]:
        outcome = entry["outcome"]
        key = (outcome,)
        if outcome != "delivered":
            key += (entry["status"], entry["reason"], "retry_at" in entry)
        changed, self._last = key != self._last, key
        if not changed:
            return
        if outcome == "delivered":
            yield "Your app takes events again."
        else:
            yield f"{_answered(entry)}: {_what_follows(entry)}."


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
            gone = f" The subscription is suspended; {RESUMES}." if found.get("status") == 404 else ""
            return f"{_answered(found)}; the event is given up.{gone}"


def _answered(attempt: Mapping[str, Any]) -> str:
    """Says what the app answered to an attempt, as the platform's log or API shows it."""
    if (status := attempt.get("status")) is not None:
        return f"Your app answered {status}"
    reason = str(attempt.get("reason") or "no answer").replace("_", " ")
    detail = attempt.get("detail")
    return f"Your app was not reached ({reason}{f', {detail}' if detail else ''})"


def _what_follows(entry: Mapping[str, Any]) -> str:
    match entry["outcome"]:
        case "suspending":
            return "for the platform the endpoint is gone, and the event is given up"
        case "throttled":
            return "the platform sends more slowly, and tries the event again for an hour"
        case _ if "retry_at" in entry:
            at, retries = _time(entry["retry_at"]), counted(len(TRIES_AGAIN_AFTER), "failed retry")
            return f"the platform tries the event again at {at}; after {retries} it gives the event up"
        case _:
            return "the platform gives the event up"


def _line(entry: Mapping[str, Any]) -> str:
    status = entry["status"] if entry["status"] is not None else "---"
    again = f" ({entry['attempt']})" if entry["attempt"] > 1 else ""
    return (
        f"{_time(entry['timestamp'])}  {status}  {entry['event_type']}  {entry['milliseconds']:.0f} ms{again}"
    )


def _time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%H:%M:%S}"
