"""The machine's clock, as `aep doctor` compares it with what the kernel knows and with the clocks of PIMs."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from aep.doctor import clocks
from aep.doctor.findings import State
from aep.sandbox.pim.app import create_app
from aep.serving import server
from event_platform.domain.errors import PimUnavailable
from event_platform.ports import PimAnswer
from support.clock import START, ManualClock

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SYNCHRONISED, FREE = clocks.KernelClock(True, 0.0213), clocks.KernelClock(False, 16.0)
OTHER = clocks.Compared("https://other.example.com", 0)


@pytest.mark.parametrize(
    ("kernel", "ahead", "state", "said"),
    [
        (SYNCHRONISED, None, "ok", "logs are in UTC; set by NTP, right to 0.021 s"),
        (FREE, None, "missing", "the kernel knows of no NTP that sets it: have chrony or"),
        (None, None, "ok", "local time"),
        (FREE, 0, "ok", "the same as that of https://pim.example.com"),
        (FREE, 1.9, "ok", "the same as"),
        (
            FREE,
            42.0,
            "problem",
            "; 42 s ahead of that of https://pim.example.com (by its Date header): set",
        ),
        (FREE, -7200.0, "problem", "; 7,200 s behind that of"),
        (None, 42.0, "problem", "times in logs and records, the end of old keys and --from of a replay are"),
        (SYNCHRONISED, 42.0, "problem", "though NTP sets this one: look at the clock of the PIM"),
    ],
)
def test_the_clock_is_compared_with_what_the_kernel_and_a_pim_say(
    kernel: clocks.KernelClock | None, ahead: float | None, state: str, said: str
) -> None:
    pims = [] if ahead is None else [clocks.Compared("https://pim.example.com", ahead)]
    found = clocks.clock(NOW, None, 0, "", kernel=kernel, pims=pims)
    assert (found.state, found.needed) == (state, False)
    assert said in found.detail


def test_a_pim_whose_clock_differs_from_those_of_others_is_named() -> None:
    pims = [OTHER, clocks.Compared("https://pim.example.com", -42)]
    found = clocks.clock(NOW, None, 0, "", kernel=FREE, pims=pims)
    assert found.state is State.PROBLEM
    assert (
        "42 s behind that of https://pim.example.com (by its Date header), and no other PIM's" in found.detail
    )


class Dated:
    """The port `PimRest`: PIMs that answer after a time, each with its own clock."""

    def __init__(self, dates: Mapping[str, datetime | None], clock: ManualClock, takes: float) -> None:
        self._dates, self._clock, self._takes = dates, clock, takes

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        await self._clock.advance(self._takes)
        pim = url.removesuffix(clocks.QUESTION)
        if pim not in self._dates:
            raise PimUnavailable("no answer came")
        return PimAnswer(401, self._dates[pim])


@pytest.mark.parametrize(
    ("date", "takes", "ahead"),
    [
        (START, 0.0, 0.0),
        (START - timedelta(seconds=1), 0.0, 0.0),  # a Date header has whole seconds
        (START + timedelta(seconds=2), 2.5, 0.0),  # within the time of the call
        (START - timedelta(seconds=43), 2.0, 42.0),
        (START + timedelta(seconds=44), 2.0, -42.0),
    ],
)
async def test_a_difference_is_what_header_and_call_do_not_explain(
    date: datetime, takes: float, ahead: float
) -> None:
    clock = ManualClock()
    found = await clocks.compared(
        ["https://a.example"], Dated({"https://a.example": date}, clock, takes), clock.now
    )
    assert found == [clocks.Compared("https://a.example", ahead)]


async def test_pims_that_do_not_answer_or_have_no_date_are_left_out() -> None:
    clock = ManualClock()
    pims = Dated({"https://a.example": None}, clock, 0)
    assert await clocks.compared(["https://a.example", "https://b.example"], pims, clock.now) == []


async def test_a_pim_over_a_socket_says_its_time() -> None:
    app = create_app(now=lambda: datetime.now(UTC) - timedelta(hours=1))
    async with server.running(app, dates_itself=True) as url:
        (found,) = await clocks.compared([url])
    assert 3590 <= found.ahead <= 3600


def test_the_kernel_is_asked_where_it_is_one_that_knows() -> None:
    found = clocks.kernel_clock()
    assert found is None or found.error >= 0
