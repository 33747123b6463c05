"""Words of sentences for people."""

import pytest

from event_platform.domain.words import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "event", "0 events"),
        (1, "event", "1 event"),
        (2, "dead letter", "2 dead letters"),
        (1, "delivery", "1 delivery"),
        (3, "delivery", "3 deliveries"),
        (2, "day", "2 days"),
    ],
)
def test_a_noun_follows_its_number(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words
