"""One-time links, sessions and the tokens of forms, without HTTP."""

import pytest

from aep.console.entry import LINK_SECONDS, LINKS, SESSION_SECONDS, Links, Sessions
from support.clock import ManualClock

KEY = b"\x01" * 32


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_link_opens_once(clock: ManualClock) -> None:
    links = Links(clock.monotonic)
    token = links.issue()

    assert links.use(token)
    assert not links.use(token)


async def test_a_link_is_good_for_ten_minutes(clock: ManualClock) -> None:
    links = Links(clock.monotonic)
    early, late = links.issue(), links.issue()

    await clock.advance(LINK_SECONDS - 1)
    assert links.use(early)
    await clock.advance(2)
    assert not links.use(late)


def test_of_many_links_the_oldest_are_dropped(clock: ManualClock) -> None:
    links = Links(clock.monotonic)
    issued = [links.issue() for _ in range(LINKS + 1)]

    assert [links.use(token) for token in issued] == [False, *[True] * LINKS]


@pytest.mark.parametrize("token", ["", "x", "x" * 100_000, "\ud800"])
def test_another_text_is_no_link(clock: ManualClock, token: str) -> None:
    links = Links(clock.monotonic)
    links.issue()

    assert not links.use(token)


def test_a_session_goes_on_in_another_process_of_the_same_key(clock: ManualClock) -> None:
    session, cookie = Sessions(KEY, clock).begin()

    assert Sessions(KEY, clock).of_cookie(cookie) == session
    assert Sessions(b"\x02" * 32, clock).of_cookie(cookie) is None


async def test_a_session_is_over_after_twelve_hours(clock: ManualClock) -> None:
    sessions = Sessions(KEY, clock)
    session, cookie = sessions.begin()

    await clock.advance(SESSION_SECONDS - 1)
    assert sessions.of_cookie(cookie) == session
    await clock.advance(2)
    assert sessions.of_cookie(cookie) is None
    assert not sessions.is_good(session)


def test_a_session_that_was_ended_is_over(clock: ManualClock) -> None:
    sessions = Sessions(KEY, clock)
    session, cookie = sessions.begin()
    sessions.end(session)

    assert sessions.of_cookie(cookie) is None


def test_a_session_that_was_ended_in_another_process_is_over(clock: ManualClock) -> None:
    session, cookie = Sessions(KEY, clock).begin()

    assert Sessions(KEY, clock, [session.id]).of_cookie(cookie) is None


def test_a_changed_cookie_is_none(clock: ManualClock) -> None:
    sessions = Sessions(KEY, clock)
    _, cookie = sessions.begin()
    changed = [
        cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :] for place in (0, 20)
    ]

    assert [sessions.of_cookie(each) for each in [*changed, cookie[:-4], "", "x.y", "\ud800"]] == [None] * 6


def test_the_token_of_a_form_is_of_one_session(clock: ManualClock) -> None:
    sessions = Sessions(KEY, clock)
    (mine, _), (other, _) = sessions.begin(), sessions.begin()

    assert sessions.is_form_token(mine, sessions.form_token(mine))
    assert not sessions.is_form_token(mine, sessions.form_token(other))
    assert not sessions.is_form_token(mine, "")
    assert not sessions.is_form_token(mine, "ü")
