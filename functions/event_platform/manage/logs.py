"""The use cases around the log: to read it, and to write down what was refused (contract/wire.md 13)."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import structlog
import uuid_utils
from cachetools import TTLCache

from ..domain import fields
from ..domain.attempts.outcomes import Reason
from ..domain.call_limits import LIMITS, CallType, OwnerAllowances
from ..domain.errors import InvalidRequest, Problem, StoreUnavailable
from ..domain.line_limit import LineLimit
from ..domain.record.actions import Call
from ..domain.record.answers import LogEntryAnswer, LogPageAnswer
from ..domain.record.logs import (
    ACTIONS,
    ERRORS,
    MERGED_WITHIN,
    MESSAGE_LENGTH,
    MORE_REFUSED,
    REFUSED,
    VALIDATION_ERROR,
    LogEntry,
    LogQuery,
    LogType,
    Operation,
    Position,
)
from ..domain.record.redaction import Redaction
from ..domain.subscriptions import Owner
from ..domain.timestamps import normalise_rfc3339, to_rfc3339
from ..ports import Clock, Logs
from .identity import REMEMBERED, Caller
from .parameters import read_parameters

log = structlog.get_logger()

DOCUMENTATION = "/docs/errors/{name}"
MAX_LIMIT = 100
PAGING = (
    "is not taken: pages have no numbers here; send next_cursor of an answer as cursor to get the next one"
)
PROBLEMS_SHOWN = 20
MAX_PROBLEM_TEXT = 512
"""Characters of a problem's message, and of its field's name, in an entry."""
MAX_PROBLEMS_BYTES = 8 * 1024

EXPLANATIONS: Mapping[str, str] = {
    Reason.DESTINATION_TIMEOUT: "No complete answer came within 5 seconds, name lookup and TLS included."
    " Answer first and work afterwards.",
    Reason.DNS_LOOKUP_FAILURE: "The endpoint's host name did not resolve. Check the URL and the name's DNS"
    " records.",
    Reason.INVALID_CERTIFICATE: "The endpoint's certificate is expired, self-signed, of another host"
    " name or of an unknown authority. Install a valid one with its intermediates.",
    Reason.INVALID_TLS_HANDSHAKE: "The TLS handshake failed. Offer TLS 1.2 or newer at the port of the URL.",
    Reason.CONNECTION_RESET: "The connection was reset before an answer was complete.",
    Reason.CONNECTION_REFUSED: "Nothing listens at the endpoint's address and port, or a firewall refuses.",
    Reason.NETWORK_UNREACHABLE: "No route leads to the endpoint's address.",
    Reason.UNEXPECTED_EOF: "The connection ended before an answer was complete.",
    Reason.SERVER_GOAWAY: "The endpoint closed the connection for new requests, with one outstanding.",
    Reason.CLIENT_CLOSED_CONNECTION: "The platform closed the connection before an answer came.",
    Reason.DESTINATION_NOT_FOUND: "The endpoint answered 404: check the URL's path. Of Pub/Sub: there"
    " is no such project.",
    Reason.DESTINATION_REDIRECTED: "The endpoint answered with a redirect, which is never followed: subscribe"
    " with the URL that it leads to.",
    Reason.AUTHENTICATION_FAILED: "The broker did not take the credentials. Check user name and password.",
    Reason.TOPIC_NOT_FOUND: "The topic does not exist, or is hidden from the platform's account.",
    Reason.INVALID_DESTINATION_CONFIGURATION: "The destination cannot be used as it is configured: its URL or"
    " an address is not allowed, also one that a Kafka cluster names; or certificate and key do not fit.",
    Reason.PUBLISH_REJECTED: "The broker refused the event. Check who may write to the topic, and how large"
    " an event it takes.",
    Reason.DESTINATION_FAILURE: "The endpoint answered with an error, or with no valid HTTP, or the broker"
    " failed. The entry's response shows how it begins.",
    Operation.DROPPED: "The deliveries were given up before they were sent: the subscription was suspended,"
    " revoked or deleted, or the platform's operator dropped them. The entry's message says which.",
}
"""Explanations by reason, or by operation if an entry has no reason."""


def call_of(method: str, url: str, redaction: Redaction) -> Call:
    """The call as entries show it; `redaction` is of its body."""
    return Call(method, url[:MESSAGE_LENGTH], redaction.shown())


class RefusalLog:
    """Writes the entries of calls that were answered 400.

    A limited number of different ones of an owner, and of a PIM, has an entry each. One entry an hour counts
    the others.
    """

    def __init__(self, logs: Logs, clock: Clock) -> None:
        self._logs = logs
        self._clock = clock
        self._allowances = OwnerAllowances(LIMITS[CallType.REFUSED], clock.monotonic)
        self._kept: TTLCache[bytes, None] = TTLCache(
            REMEMBERED, MERGED_WITHIN.total_seconds(), clock.monotonic
        )
        self._lines = LineLimit(clock.monotonic)

    async def record(
        self,
        owner: Owner,
        method: str,
        url: str,
        redaction: Redaction,
        ids: Mapping[str, str],
        error: InvalidRequest,
    ) -> None:
        """Writes the entry, or counts the call. That it cannot be written changes no answer."""
        refusal = LogEntry(
            id=str(uuid_utils.uuid7()),
            owner=owner,
            log_type=LogType.ERROR,
            at=self._clock.now(),
            operation=REFUSED,
            error_type=VALIDATION_ERROR,
            error_code=400,
            error_message=MORE_REFUSED,
        )
        try:
            if self._is_kept(owner, ids, error):
                refusal = _shown_refusal(refusal, call_of(method, url, redaction), redaction, ids, error)
            await self._logs.add_refusal(refusal)
        except StoreUnavailable as unavailable:
            log.warning("logs.refusal_not_written", error=str(unavailable))

    def _is_kept(self, owner: Owner, ids: Mapping[str, str], error: InvalidRequest) -> bool:
        """True if the call gets an entry of its own, or is counted in one that equals it."""
        name = repr((owner, sorted(ids.items()), error.problems[:PROBLEMS_SHOWN]))
        key = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._kept:
            return True
        if self._allowances.take(owner) is None:
            self._kept[key] = None
            return True
        if times := self._lines.count(owner):
            log.warning("refusals.counted", tenant=owner.tenant, client_id=owner.client_id, times=times)
        return False


def _shown_refusal(
    refusal: LogEntry, call: Call, redaction: Redaction, ids: Mapping[str, str], error: InvalidRequest
) -> LogEntry:
    problems = _shown_problems(error, redaction)
    return replace(
        refusal,
        subscriber_id=_id(ids, "sid"),
        subscription_id=_id(ids, "id"),
        error_message="; ".join(problem["message"] for problem in problems)[:MESSAGE_LENGTH],
        request=call.shown(),
        response={"errors": problems},
    )


def _shown_problems(error: InvalidRequest, redaction: Redaction) -> list[dict[str, str]]:
    """Returns the first problems without the body's secrets, at most MAX_PROBLEMS_BYTES of them."""
    problems: list[dict[str, str]] = []
    left = MAX_PROBLEMS_BYTES
    for problem in error.problems[:PROBLEMS_SHOWN]:
        entry = {"message": redaction.scrubbed(str(problem))[:MAX_PROBLEM_TEXT]}
        if problem.field:
            entry["field"] = redaction.scrubbed(problem.field)[:MAX_PROBLEM_TEXT]
        left -= len(orjson.dumps(entry))
        if left < 0:
            break
        problems.append(entry)
    return problems


async def read_page(
    caller: Caller, parameters: Iterable[tuple[str, str]], *, logs: Logs, base: str
) -> LogPageAnswer:
    """Returns one page; `base` begins the documentation's URLs. Raises InvalidRequest."""
    query, warnings = parse_query(parameters)
    found = await logs.entries(caller.owner, replace(query, limit=query.limit + 1))
    page = found[: query.limit]
    more = len(found) > query.limit
    answer: LogPageAnswer = {
        "items": [shown(entry, base) for entry in page],
        "next_cursor": _cursor(page[-1], query) if more else None,
    }
    if warnings:
        answer["warnings"] = [{"message": str(warning), "field": warning.field} for warning in warnings]
    return answer


def shown(entry: LogEntry, base: str) -> LogEntryAnswer:
    """Returns the entry without the keys that have no value."""
    documented = (entry.error_reason or entry.operation) if entry.is_of_a_delivery else None
    members = {
        "log_id": entry.id,
        "log_type": entry.log_type,
        "timestamp": to_rfc3339(entry.at),
        "operation": entry.operation,
        "subscriber_id": entry.subscriber_id,
        "subscription_id": entry.subscription_id,
        "error_type": entry.error_type,
        "error_reason": entry.error_reason,
        "error_code": entry.error_code,
        "error_message": entry.error_message,
        "documentation_url": base + DOCUMENTATION.format(name=documented) if documented else None,
        "request": dict(entry.request),
        "response": dict(entry.response),
        "occurrences": entry.occurrences,
        "events": list(entry.events),
    }
    return cast("LogEntryAnswer", {name: value for name, value in members.items() if value is not None})


def parse_query(parameters: Iterable[tuple[str, str]]) -> tuple[LogQuery, Sequence[Problem]]:
    """Returns the query that a URL asks for, and what was not done as it was asked. Raises InvalidRequest."""
    sent = read_parameters(parameters, _PARSERS, paging=PAGING)
    parsed = sent.parse(_PARSERS)
    limit: int = parsed.get("limit", LogQuery().limit)
    query = LogQuery(
        log_type=parsed.get("log_type"),
        operation=parsed.get("operation"),
        error_reason=parsed.get("error_reason"),
        subscriber_id=parsed.get("subscriber_id"),
        subscription_id=parsed.get("subscription_id"),
        since=parsed.get("from"),
        before=parsed.get("to"),
        newest_first=parsed.get("order", "desc") == "desc",
        limit=min(limit, MAX_LIMIT),
        after=None,
    )
    if "cursor" in parsed and not sent.problems:
        of_list, position = parsed["cursor"]
        if of_list != _list_of(query):
            sent.add_problem(sent.values["cursor"][0], "is of a list with another order or other filters")
        query = replace(query, after=position)
    return query, sent.warnings(limit, MAX_LIMIT)


def _id(ids: Mapping[str, str], name: str) -> str | None:
    return ids[name][: fields.MAX_ID_LENGTH] if name in ids else None


def one_of(known: frozenset[str], text: str) -> str:
    if text not in known:
        listed = ", ".join(sorted(known))
        raise ValueError(f"must be one of {listed}")
    return text


def some_id(text: str) -> str:
    if not 1 <= len(text) <= fields.MAX_ID_LENGTH or not text.isprintable():
        raise ValueError("must be an id")
    return text


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(normalise_rfc3339(text.replace(" ", "+")))


def since_of(text: str) -> datetime:
    """A time, or the beginning of a day."""
    return _moment(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)


def until_of(text: str) -> datetime:
    """A time, or the end of a day."""
    if not _DAY.fullmatch(text):
        return _moment(text)
    return min(since_of(text), datetime.max.replace(tzinfo=UTC) - timedelta(days=1)) + timedelta(days=1)


def limit_of(text: str) -> int:
    # A plus sign, blanks and underscores are for int() alone.
    digits = text.lstrip("0")
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"must be a number from 1 to {MAX_LIMIT}")
    return int(digits[:9])


def _list_of(query: LogQuery) -> str:
    """Names what is listed, in which order. Times are no part of it: they may move from page to page."""
    chosen = (
        query.newest_first,
        query.log_type,
        query.operation,
        query.error_reason,
        query.subscriber_id,
        query.subscription_id,
    )
    return hashlib.sha256(repr(chosen).encode()).hexdigest()[:16]


def _cursor(last: LogEntry, query: LogQuery) -> str:
    text = orjson.dumps([_list_of(query), last.at.timestamp(), last.id])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _cursor_of(text: str) -> tuple[str, Position]:
    wrong = "is none that this list gave"
    if len(text) > fields.MAX_CURSOR_LENGTH or not text.isascii():
        raise ValueError(wrong)
    try:
        found = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        raise ValueError(wrong) from None
    match found:
        case [str(of_list), float(at), str(entry_id)]:
            return of_list, Position(at, entry_id)
        case _:
            raise ValueError(wrong)


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PARSERS: Mapping[str, Any] = {
    "log_type": lambda text: LogType(one_of(frozenset(LogType), text)),
    "operation": lambda text: one_of(ACTIONS | ERRORS, text),
    "error_reason": lambda text: one_of(frozenset(Reason), text),
    "subscriber_id": some_id,
    "subscription_id": some_id,
    "from": since_of,
    "to": until_of,
    "order": lambda text: one_of(frozenset({"asc", "desc"}), text.lower()),
    "limit": limit_of,
    "cursor": _cursor_of,
}
