"""Bodies of replays and of a resume (contract/wire.md 15)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ...domain import fields
from ...domain.errors import InvalidRequest, Problem
from ...domain.ingest_formats.cloudevents import MAX_ID_LENGTH
from ...domain.replays import MAX_EVENT_IDS, ReplayRequest, Which
from ...domain.timestamps import normalise_rfc3339, to_rfc3339
from .body import Body, Rules, fold, validated
from .subscriptions import KnownEvent


def _check_time(text: str) -> str:
    _moment(text)
    return text


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(normalise_rfc3339(text)).astimezone(UTC)


Time = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_time)]
EventId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]


class ReplayBody(Body):
    """A replay: of a range of time, or of these events."""

    since: Annotated[Time | None, Field(alias="from")] = None
    until: Annotated[Time | None, Field(alias="to")] = None
    event_ids: (
        Annotated[list[EventId], Field(min_length=1, max_length=MAX_EVENT_IDS), AfterValidator(fold)] | None
    ) = None
    events: (
        Annotated[
            list[KnownEvent], Field(min_length=1, max_length=fields.MAX_EVENT_TYPES), AfterValidator(fold)
        ]
        | None
    ) = None
    which: Literal["undelivered", "all"] = "undelivered"


class ResumeBody(Body):
    """The body of a resume, which goes before what the subscription says."""

    catch_up: bool | None = None


def parse_replay(body: Any, now: datetime, *, rules: Rules) -> ReplayRequest:
    """Returns what is asked for at the time `now`. Raises InvalidRequest."""
    wanted = validated(ReplayBody, body, rules=rules)
    since = None if wanted.since is None else _moment(wanted.since)
    until = None if wanted.until is None else _moment(wanted.until)
    problems: list[Problem] = []
    if (since is None) == (wanted.event_ids is None):
        problems.append(Problem("from", "give either from or event_ids, and not both"))
    if until is not None and since is None:
        problems.append(Problem("to", "goes with from"))
    if until is not None and until > now:
        problems.append(Problem("to", f"must not be later than now, which is {to_rfc3339(now)}"))
    if since is not None and since >= (until or now):
        problems.append(Problem("from", f"must be before {'now' if until is None else 'to'}"))
    if problems:
        raise InvalidRequest(*problems)
    return ReplayRequest(
        since, until, tuple(wanted.event_ids or ()), tuple(wanted.events or ()), Which(wanted.which)
    )
