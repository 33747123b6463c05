"""Subscribers and subscriptions of a data folder, over all clients, for its operator.

Reading is done on the file. What acts goes through the platform that runs on the folder, or else is done on
the file by the same use cases; either way it is logged as the operator's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from event_platform.domain.record import representations
from event_platform.domain.subscriptions import Owner, Subscriber

from ..output import fail
from ..store import all_records
from ..store.ends import last_failure_of
from .registry import pim_url as normalised
from .stores import open_store


class OperatorRecords:
    """The `Management` of the operator. `pim_url` and `client_id` narrow lists, and own what is created."""

    def __init__(self, data: Path, pim_url: str | None, client_id: str | None) -> None:
        self._data = data
        self._tenant = None if pim_url is None else normalised(pim_url)
        self._client_id = client_id
        self._stack = ExitStack()

    def __enter__(self) -> "OperatorRecords":
        self._connection = self._stack.enter_context(open_store(self._data))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def subscribers(self) -> Iterator[Mapping[str, Any]]:
        for record in all_records.subscribers(
            self._connection, tenant=self._tenant, client_id=self._client_id
        ):
            yield _of(record.owner) | representations.subscriber(record)

    def subscriptions(self, subscriber_id: str | None) -> Iterator[Mapping[str, Any]]:
        if subscriber_id is not None:
            self._subscriber(subscriber_id)
        for record in all_records.subscriptions(
            self._connection, tenant=self._tenant, client_id=self._client_id, subscriber_id=subscriber_id
        ):
            yield _of(record.owner) | representations.subscription(record)

    def create_subscriber(self, body: Any) -> Mapping[str, Any]:
        if self._tenant is None or self._client_id is None:
            fail("--pim-url and --client-id must be given: they say whose the subscriber is")
        return self._act("POST", ("subscribers",), body, Owner(self._tenant, self._client_id))

    def create_subscription(self, subscriber_id: str, body: Any) -> Mapping[str, Any]:
        path = ("subscribers", subscriber_id, "subscriptions")
        return self._act("POST", path, body, self._subscriber(subscriber_id).owner)

    def subscriber(self, method: str, subscriber_id: str, body: Any = None) -> Mapping[str, Any]:
        record = self._subscriber(subscriber_id)
        if method == "GET":
            return _of(record.owner) | representations.subscriber(record)
        return self._act(method, ("subscribers", subscriber_id), body, record.owner)

    def subscription(
        self, method: str, subscription_id: str, body: Any = None, *, action: str | None = None
    ) -> Mapping[str, Any]:
        record = all_records.subscription(self._connection, subscription_id)
        if record is None:
            fail(f"no subscription {subscription_id}: `aep subscriptions list --operator` shows them", 1)
        if method == "GET":
            failure = last_failure_of(self._connection, record.id)
            return _of(record.owner) | representations.subscription(record, failure)
        path = ("subscriptions", subscription_id) + ((action,) if action is not None else ())
        return self._act(method, path, body, record.owner)

    def _subscriber(self, subscriber_id: str) -> Subscriber:
        record = all_records.subscriber(self._connection, subscriber_id)
        if record is None:
            fail(f"no subscriber {subscriber_id}: `aep subscribers list --operator` shows them", 1)
        return record

    def _act(self, method: str, path: Sequence[str], body: Any, owner: Owner) -> Mapping[str, Any]:
        raise NotImplementedError


def _of(owner: Owner) -> dict[str, Any]:
    return {"pim_url": owner.tenant, "client_id": owner.client_id}
