"""The gaps between a PIM's calls, and when it counts as silent."""

from aep.runtime.gaps import DAY, DAYS, LEAST_GAPS, LEAST_SILENCE, MEDIANS, Gaps, silent_for

START = 1_700_000_000.0


def gaps_of(seconds: float, number: int, *, start: float = START) -> tuple[Gaps, float]:
    """Calls with so many gaps of that length; when the last one came."""
    gaps = Gaps()
    for index in range(number + 1):
        gaps.note(start + index * seconds)
    return gaps, start + number * seconds


def test_the_median_is_known_after_some_gaps() -> None:
    few, last = gaps_of(10, LEAST_GAPS - 1)
    enough, _ = gaps_of(10, LEAST_GAPS)

    assert few.median(last) is None
    assert enough.median(last) == 16.0


def test_bursts_and_pauses_leave_the_median_in_the_middle() -> None:
    gaps = Gaps()
    at = START
    for gap in [0.1] * 40 + [600] * 41 + [50_000]:
        gaps.note(at)
        at += gap
    gaps.note(at)

    assert gaps.median(at) == 1024.0


def test_a_week_is_looked_back_at() -> None:
    gaps, last = gaps_of(60, 100)

    assert gaps.median(last + (DAYS - 2) * DAY) is not None
    assert gaps.median(last + (DAYS + 1) * DAY) is None
    for day in range(30):
        for index in range(30):
            gaps.note(last + day * DAY + index)
    assert len(gaps._days) <= DAYS + 1


def test_a_pim_is_silent_after_ten_of_its_gaps_and_an_hour_at_least() -> None:
    (often, last), (seldom, late) = gaps_of(10, 50), gaps_of(1000, 50)
    gaps = {"often": often, "seldom": seldom}

    assert silent_for(gaps, "often", last, last + LEAST_SILENCE) is None
    assert silent_for(gaps, "often", last, last + LEAST_SILENCE + 1) == LEAST_SILENCE + 1
    assert silent_for(gaps, "seldom", late, late + MEDIANS * 1000) is None
    assert silent_for(gaps, "seldom", late, late + MEDIANS * 1024 + 1) is not None
    assert silent_for(gaps, "unknown", last, last + 1e9) is None
    assert silent_for(gaps, "often", None, last + 1e9) is None


def test_a_clock_that_goes_back_makes_no_gap() -> None:
    gaps, last = gaps_of(10, 50)
    gaps.note(last - 1000)
    gaps.note(last - 990)

    assert gaps.median(last) == 16.0
