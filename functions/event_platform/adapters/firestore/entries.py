"""Log entries as documents in Firestore: what is written of them, and what documents are read as.

Fields without a value are left out, so that a document is only in the indexes of what it has.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ... import data_model
from ...domain.record.logs import EVENTS_LISTED, KEPT_FOR, LogEntry, LogType
from ...domain.subscriptions import Owner

PART_OF = "part_of"
"""The field of a part that has its entry's id."""


def fields_of(entry: LogEntry) -> dict[str, Any]:
    """Fields that a reader filters and orders by; requests, responses and events are one text each."""
    fields: dict[str, Any] = {
        "id": entry.id,
        "tenant": entry.owner.tenant,
        "client_id": entry.owner.client_id,
        "log_type": str(entry.log_type),
        "at": entry.at.timestamp(),
        "operation": str(entry.operation),
        "subscriber_id": entry.subscriber_id,
        "subscription_id": entry.subscription_id,
        "error_type": entry.error_type,
        "error_reason": str(entry.error_reason) if entry.error_reason is not None else None,
        "error_code": entry.error_code,
        "error_message": entry.error_message,
        "request": orjson.dumps(entry.request).decode(),
        "response": orjson.dumps(entry.response).decode(),
        "occurrences": entry.occurrences,
        "events": orjson.dumps(list(entry.events)).decode() if entry.events else None,
        data_model.EXPIRES_AT: entry.at + KEPT_FOR,
    }
    return {name: value for name, value in fields.items() if value is not None}


def entry_of(parts: Sequence[Mapping[str, Any]]) -> LogEntry:
    """The entry whose documents these are: the sum of its parts, and the rest as in the latest one."""
    last = max(parts, key=lambda part: part["at"])
    return LogEntry(
        id=last["id"],
        owner=Owner(last["tenant"], last["client_id"]),
        log_type=LogType(last["log_type"]),
        at=datetime.fromtimestamp(0, UTC) + timedelta(seconds=last["at"]),
        operation=last["operation"],
        subscriber_id=last.get("subscriber_id"),
        subscription_id=last.get("subscription_id"),
        error_type=last.get("error_type"),
        error_reason=last.get("error_reason"),
        error_code=last.get("error_code"),
        error_message=last.get("error_message"),
        request=orjson.loads(last["request"]),
        response=orjson.loads(last["response"]),
        occurrences=sum(part["occurrences"] for part in parts),
        events=_events_of(parts),
    )


def _events_of(parts: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The first of all parts, without the times that say which these are."""
    listed = [event for part in parts for event in orjson.loads(part.get("events", "[]"))]
    listed.sort(key=lambda event: event["at"])
    return tuple(
        {name: value for name, value in event.items() if name != "at"} for event in listed[:EVENTS_LISTED]
    )
