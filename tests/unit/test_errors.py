"""Errors of the platform's tree in another process."""

import pickle

import pytest

from event_platform.domain.errors import (
    Conflict,
    EventPlatformError,
    InvalidRequest,
    Overloaded,
    Problem,
    PublishFailed,
    TooManyRequests,
    TopicHeld,
    TopicMissing,
)


@pytest.mark.parametrize(
    "error",
    [
        Conflict("a message"),
        InvalidRequest(Problem("a.field", "is wrong"), Problem("", "is wrong, too")),
        Overloaded("a message", 5),
        PublishFailed("a message", (1, 2)),
        TooManyRequests("a message", 5),
        TopicHeld("a-project", "a-topic"),
        TopicMissing("a message", ()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: EventPlatformError) -> None:
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - written here
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
