"""When the fault is ours: most of many unrelated origins fail in transport within a minute."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from event_platform.domain.egress import Egress
from event_platform.domain.subscriptions import HttpsConfig


def tried(failed: int, answered: int, *, at: float = 0.0) -> Egress:
    egress = Egress()
    for number in range(failed + answered):
        egress.observe(f"receiver-{number}.example", at, failed=number < failed)
    return egress


def test_more_than_half_of_20_hosts_is_our_fault() -> None:
    assert tried(11, 9).is_failing(0.0)


def test_half_of_them_is_not() -> None:
    assert not tried(10, 10).is_failing(0.0)


def test_fewer_than_20_hosts_say_nothing() -> None:
    assert not tried(19, 0).is_failing(0.0)


def test_many_urls_and_ports_of_one_host_are_one_origin() -> None:
    egress = Egress()
    for number in range(100):
        url = f"https://receiver.example:{8000 + number}/{number}"
        egress.observe(HttpsConfig(url, SecretStr("s")).host, 0.0, failed=True)
    assert not egress.is_failing(0.0)
    assert (egress.origins, egress.failing) == (1, 1)


def test_it_is_over_when_the_hosts_answer_again() -> None:
    egress = tried(20, 0)
    for number in range(10):
        egress.observe(f"receiver-{number}.example", 5.0, failed=False)
    assert not egress.is_failing(5.0)


def test_what_is_older_than_a_minute_says_nothing() -> None:
    egress = tried(20, 0)
    assert egress.is_failing(60.0)
    assert not egress.is_failing(60.1)
    assert (egress.origins, egress.failing) == (0, 0)


def test_it_is_told_once_a_minute() -> None:
    egress = Egress()
    assert [at for at in range(0, 150, 10) if egress.is_to_be_told(at)] == [0, 60, 120]


@given(
    attempts=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 5), st.booleans()), max_size=200),
)
def test_it_says_what_a_look_at_every_hosts_latest_attempt_says(
    attempts: list[tuple[int, int, bool]],
) -> None:
    egress, latest, now = Egress(), dict[int, tuple[int, bool]](), 0
    for host, seconds, failed in attempts:
        now += seconds
        egress.observe(f"{host}.example", now, failed=failed)
        latest[host] = (now, failed)
        recent = [failing for at, failing in latest.values() if now - at <= 60]
        assert egress.is_failing(now) == (len(recent) >= 20 and sum(recent) > len(recent) / 2)
