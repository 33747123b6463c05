"""Each query of the log has its index in the data model: the emulator does not tell of missing ones."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from event_platform import data_model
from event_platform.adapters.firestore.client import connect
from event_platform.adapters.firestore.logs import query_of
from event_platform.data_model import Index
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.record.logs import ACTIONS, ERRORS, LogQuery, LogType, Operation, Position
from support.clock import START
from support.records import OWNER

MOST_INDEXES = 200
"""Of a database: https://cloud.google.com/firestore/quotas"""
LATER = START + timedelta(days=1)


def queries() -> Iterator[LogQuery]:
    """Everything that can be asked, but for the values of ids."""
    filters = product(
        (None, *LogType),
        (None, *ACTIONS, *ERRORS),
        (None, *Reason),
        (None, "a subscriber"),
        (None, "a subscription"),
        (True, False),
    )
    for log_type, operation, reason, subscriber, subscription, newest_first in filters:
        query = LogQuery(log_type, operation, reason, subscriber, subscription, newest_first=newest_first)
        try:
            query.kind()
        except ValueError:
            continue
        yield query


def shape_of(query: LogQuery) -> tuple[Any, ...]:
    """What is asked for, without the values."""
    kind = query.kind()
    ids = query.subscriber_id is not None, query.subscription_id is not None
    return query.newest_first, *ids, kind and kind[0]


async def index_for(query: LogQuery) -> Index:
    """What the query asks for: equality, then the order."""
    client = connect("project", emulator="127.0.0.1:1").client
    asked: Any = query_of(client.collection(data_model.LOG_ENTRIES), OWNER, query)._to_protobuf()
    filters = [each.field_filter for each in asked.where.composite_filter.filters]
    assert {each.op.name for each in filters} == {"EQUAL"}
    equal: list[tuple[str, Any]] = [(each.field.field_path, "ASCENDING") for each in filters]
    order = [(each.field.field_path, each.direction.name) for each in asked.order_by]
    return Index(data_model.LOG_ENTRIES, (*equal, *order))


async def test_every_query_has_its_index_and_every_index_its_query() -> None:
    shapes = {shape_of(query): query for query in queries()}
    needed = {await index_for(query) for query in shapes.values()}
    assert needed == {index for index in data_model.INDEXES if index.collection == data_model.LOG_ENTRIES}
    assert len(set(data_model.INDEXES)) == len(data_model.INDEXES) <= MOST_INDEXES


@pytest.mark.parametrize("since", [None, START])
@pytest.mark.parametrize("before", [None, LATER])
@pytest.mark.parametrize("after", [None, Position(START.timestamp() + 1, "id")])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_times_and_positions_change_nothing_about_the_index(
    since: datetime | None, before: datetime | None, after: Position | None, *, newest_first: bool
) -> None:
    query = LogQuery(operation=Operation.FAILED, newest_first=newest_first)
    bounded = replace(query, since=since, before=before, after=after)
    assert await index_for(bounded) == await index_for(query)
