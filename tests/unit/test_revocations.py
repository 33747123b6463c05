"""Which events say that a client is gone from the PIM."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from event_platform.domain.revocations import REMOVALS, removed_client
from event_platform.domain.subscriptions import Owner, Status
from support.clock import START
from support.records import PIM, a_subscriber, an_event, with_data

CONNECTION = "com.akeneo.pim.v1.connection.deleted"
APP = "com.akeneo.pim.v1.app.deleted"


@pytest.mark.parametrize(
    ("event_type", "data", "client_id"),
    [
        (CONNECTION, {"connection": {"client_id": "erp"}}, "erp"),
        (APP, {"app": {"client_id": "shop"}}, "shop"),
        (APP, {"connection": {"client_id": "erp"}}, None),
        (APP, {"app": {"client_id": ""}}, None),
        (APP, {"app": {"client_id": "é" * 256}}, "é" * 256),
        (APP, {"app": {"client_id": "é" * 257}}, None),
        (APP, {"app": {"client_id": "erp\ud800"}}, None),
        (APP, {"app": {"client_id": "erp\0"}}, None),
        (APP, {"app": {"client_id": 7}}, None),
        (APP, {"app": ["client_id"]}, None),
        (APP, {"app": {}}, None),
        (APP, {}, None),
        ("com.akeneo.pim.v1.product.updated", {"app": {"client_id": "shop"}}, None),
    ],
)
def test_the_client_that_is_gone(event_type: str, data: dict[str, Any], client_id: str | None) -> None:
    client = removed_client(with_data(replace(an_event(), type=event_type), data), PIM, START)
    assert (None if client is None else client.owner) == (client_id and Owner(PIM, client_id))
    assert client is None or event_type in REMOVALS


@pytest.mark.parametrize(
    ("made_after", "status", "is_lost"),
    [
        (timedelta(seconds=-1), Status.ACTIVE, True),
        (timedelta(0), Status.ACTIVE, True),
        (timedelta(seconds=1), Status.ACTIVE, False),
        (timedelta(seconds=-1), Status.REVOKED, False),
    ],
)
def test_it_loses_the_subscribers_that_it_had(made_after: timedelta, status: Status, is_lost: bool) -> None:
    data = {"connection": {"client_id": "erp"}}
    client = removed_client(with_data(replace(an_event(), type=CONNECTION), data), PIM, START)
    assert client is not None
    subscriber = replace(a_subscriber(now=START + made_after), status=status)
    assert client.loses(subscriber) is is_lost
