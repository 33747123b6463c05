"""When our own code fails: the pauses between its tries."""

import pytest

from event_platform.domain.faults import FAULTS_AT_MOST, backoff_seconds


def test_the_pauses_double_from_a_second_to_a_minute() -> None:
    assert [backoff_seconds(faults) for faults in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("faults", [FAULTS_AT_MOST, 1025, 100_000])
def test_any_number_of_failures_has_a_pause(faults: int) -> None:
    assert backoff_seconds(faults) == 60
