"""Lanes: which changes stay in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.pace.lanes import lane_of

UUID = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("identity", "event_id", "lanes", "lane"),
    [
        ((UUID,), "event-1", 16, 1),
        (("size", "xl"), "event-1", 16, 8),
        ((), "event-1", 16, 4),
        ((), "event-1", 1024, 180),
        (("\u00e9\u65e5\U0001f600",), "event-1", 1024, 236),
        (("\ud800",), "event-1", 1024, 296),
    ],
)
def test_a_lane_never_changes(identity: tuple[str, ...], event_id: str, lanes: int, lane: int) -> None:
    assert lane_of(identity, event_id, lanes) == lane


@given(identity=st.lists(st.text(), max_size=3), event_id=st.text(), lanes=st.integers(1, 4096))
def test_a_lane_is_in_range(identity: list[str], event_id: str, lanes: int) -> None:
    assert 0 <= lane_of(tuple(identity), event_id, lanes) < lanes


def test_all_changes_of_an_entity_share_a_lane() -> None:
    assert len({lane_of((UUID,), f"event-{number}", 1024) for number in range(100)}) == 1


def test_events_without_an_entity_are_spread() -> None:
    assert {lane_of((), f"event-{number}", 16) for number in range(1000)} == set(range(16))


def test_an_entity_is_more_than_its_parts_put_together() -> None:
    assert lane_of(("ab", "c"), "", 2**31) != lane_of(("a", "bc"), "", 2**31)
