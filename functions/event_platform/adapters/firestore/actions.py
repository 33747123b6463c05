"""Log entries of actions as documents in Firestore, written in the batch of the change that they tell of."""

from typing import Any

import orjson

from ... import data_model
from ...domain.logs import KEPT_FOR, LogEntry


def fields_of(entry: LogEntry) -> dict[str, Any]:
    """What a reader filters and orders by; the call and the resource as one text each."""
    return {
        "tenant": entry.owner.tenant,
        "client_id": entry.owner.client_id,
        "operation": entry.operation,
        "subscriber_id": entry.subscriber_id,
        "subscription_id": entry.subscription_id,
        "message": entry.error_message,
        "request": orjson.dumps(entry.request).decode(),
        "response": orjson.dumps(entry.response).decode(),
        "at": entry.at.timestamp(),
        data_model.EXPIRES_AT: entry.at + KEPT_FOR,
    }
