"""Subscribers and subscriptions of a data folder, over all clients, for its operator.

Reading is done on the file. What acts goes through the platform that runs on the folder, or else is done on
the file by the same use cases; either way it is logged as the operator's.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from event_platform.domain.record import representations
from event_platform.domain.subscriptions import Owner, Subscriber

from ..control import in_process
from ..control.client import control
from ..output import fail
from ..store import all_records
from ..store.ends import last_failure_of
from .options import settings
from .registry import pim_url as normalised
from .stores import open_store

BASE_URL = "http://localhost"


class OperatorRecords:
    """The `Management` of the operator. `pim_url` and `client_id` narrow lists, and own what is created.

    No connection is open while something acts: closing it would end the locks of the store on the file.
    """

    def __init__(self, data: Path, pim_url: str | None, client_id: str | None) -> None:
        self._data = data
        self._tenant = None if pim_url is None else normalised(pim_url)
        self._client_id = client_id

    def subscribers(self) -> Iterator[Mapping[str, Any]]:
        with open_store(self._data) as connection:
            for record in all_records.subscribers(connection, tenant=self._tenant, client_id=self._client_id):
                yield _of(record.owner) | representations.subscriber(record)

    def subscriptions(self, subscriber_id: str | None) -> Iterator[Mapping[str, Any]]:
        if subscriber_id is not None:
            self._subscriber(subscriber_id)
        with open_store(self._data) as connection:
            for record in all_records.subscriptions(
                connection, tenant=self._tenant, client_id=self._client_id, subscriber_id=subscriber_id
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
        with open_store(self._data) as connection:
            record = all_records.subscription(connection, subscription_id)
            failure = last_failure_of(connection, subscription_id)
        if record is None:
            fail(f"no subscription {subscription_id}: `aep subscriptions list --operator` shows them", 1)
        if method == "GET":
            return _of(record.owner) | representations.subscription(record, failure)
        path = ("subscriptions", subscription_id) + ((action,) if action is not None else ())
        return self._act(method, path, body, record.owner)

    def act_on_all(
        self, subscriber_id: str, action: str, body: Any, is_meant: Callable[[Mapping[str, Any]], bool]
    ) -> Sequence[Mapping[str, Any]]:
        meant = [each for each in self.subscriptions(subscriber_id) if is_meant(each)]
        if not meant:
            return []
        owner = self._subscriber(subscriber_id).owner
        return self._act_on_each(
            "POST", [("subscriptions", each["id"], action) for each in meant], body, owner
        )

    def _subscriber(self, subscriber_id: str) -> Subscriber:
        with open_store(self._data) as connection:
            record = all_records.subscriber(connection, subscriber_id)
        if record is None:
            fail(f"no subscriber {subscriber_id}: `aep subscribers list --operator` shows them", 1)
        return record

    def _act(self, method: str, path: Sequence[str], body: Any, owner: Owner) -> Mapping[str, Any]:
        (answer,) = self._act_on_each(method, [path], body, owner)
        return answer

    def _act_on_each(
        self, method: str, paths: Sequence[Sequence[str]], body: Any, owner: Owner
    ) -> Sequence[Mapping[str, Any]]:
        headers = {"X-PIM-URL": owner.tenant, "X-PIM-CLIENT-ID": owner.client_id}
        with control(self._data) as platform:
            if platform is not None:
                answers = [platform.call(method, path, body, headers) for path in paths]
            else:
                answers = asyncio.run(_on_the_file(self._data, method, paths, body, headers))
        return [_of(owner) | answer for answer in answers]


async def _on_the_file(
    data: Path, method: str, paths: Sequence[Sequence[str]], body: Any, headers: Mapping[str, str]
) -> Sequence[Any]:
    """Makes the calls on the file of a folder on which no platform runs, which is opened once.

    Raises DataFolderInUse.
    """
    from ..wiring import Platform  # most commands start faster without it

    faults: list[BaseException] = []
    platform = Platform(settings(), data, base_url=BASE_URL, on_fault=faults.append)
    async with platform.opened():
        answers = [await in_process.call(platform.control_app, method, path, body, headers) for path in paths]
    if faults:
        raise faults[0]
    return answers


def _of(owner: Owner) -> dict[str, Any]:
    return {"pim_url": owner.tenant, "client_id": owner.client_id}
