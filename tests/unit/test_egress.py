"""When the fault is ours: most of many unrelated origins fail in transport within a minute."""

from collections.abc import Callable, Hashable, Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from event_platform.domain.attempts.egress import Egress
from event_platform.domain.subscriptions import HttpsConfig, Owner

PIM = "https://pim.example"


def an_owner(number: int, pim: str = PIM) -> Owner:
    return Owner(pim, f"client-{number}")


def observe(egress: Egress, owner: Owner, hosts: range, *, failed: bool, at: float = 0.0) -> None:
    for number in hosts:
        egress.observe(owner, f"receiver-{number}.example", at, failed=failed)


def tried(failed: int, answered: int, *, owners: int = 3) -> Egress:
    """Hosts of so many owners of one PIM, in turns."""
    egress = Egress()
    for number in range(failed + answered):
        owner = an_owner(number % owners)
        egress.observe(owner, f"receiver-{number}.example", 0.0, failed=number < failed)
    return egress


def test_more_than_half_of_20_hosts_is_our_fault() -> None:
    assert tried(11, 9).is_failing(0.0)


def test_half_of_them_is_not() -> None:
    assert not tried(10, 10).is_failing(0.0)


def test_fewer_than_20_hosts_say_nothing() -> None:
    assert not tried(19, 0).is_failing(0.0)


def test_fewer_than_3_owners_say_nothing() -> None:
    assert not tried(100, 0, owners=2).is_failing(0.0)


def test_one_host_that_many_owners_use_is_one_origin() -> None:
    egress = Egress()
    for number in range(100):
        egress.observe(an_owner(number), "app.example", 0.0, failed=True)
    observe(egress, an_owner(100), range(19), failed=False)
    assert (egress.origins, egress.failing) == (20, 1)
    assert not egress.is_failing(0.0)


def test_the_dead_hosts_of_one_owner_do_not_speak_for_others() -> None:
    egress = Egress()
    observe(egress, an_owner(1), range(400), failed=True)
    observe(egress, an_owner(2), range(400, 402), failed=False)
    observe(egress, an_owner(3), range(402, 412), failed=True)
    assert egress.failing == 410
    assert not egress.is_failing(0.0)


def test_the_many_owners_of_one_pim_do_not_speak_for_other_pims() -> None:
    egress = Egress()
    for number in range(50):
        observe(egress, an_owner(number, "https://hostile.example"), range(number, number + 1), failed=True)
    observe(egress, an_owner(1), range(50, 51), failed=False)
    assert not egress.is_failing(0.0)


def test_a_small_platform_whose_network_is_down_is_told_so() -> None:
    """One PIM with three clients: all that they try fails."""
    egress = Egress()
    observe(egress, an_owner(1), range(20), failed=True)
    observe(egress, an_owner(2), range(20, 27), failed=True)
    observe(egress, an_owner(3), range(27, 32), failed=True)
    assert not egress.is_failing(0.0)  # 7 of each are counted
    observe(egress, an_owner(3), range(32, 33), failed=True)
    assert egress.is_failing(0.0)


def test_healthy_hosts_of_one_owner_do_not_hide_that_a_pim_fails() -> None:
    """An owner is one voice, whatever he has."""
    egress = tried(30, 0)
    observe(egress, an_owner(3), range(30, 55), failed=False)
    assert egress.is_failing(0.0)


def test_many_urls_and_ports_of_one_host_are_one_origin() -> None:
    egress = Egress()
    for number in range(100):
        url = f"https://receiver.example:{8000 + number}/{number}"
        egress.observe(an_owner(number), HttpsConfig(url, SecretStr("s")).host, 0.0, failed=True)
    assert not egress.is_failing(0.0)
    assert (egress.origins, egress.failing) == (1, 1)


def test_it_is_over_when_the_hosts_answer_again() -> None:
    egress = tried(20, 0)
    for number in range(10):
        egress.observe(an_owner(number % 3), f"receiver-{number}.example", 5.0, failed=False)
    assert not egress.is_failing(5.0)


def test_what_is_older_than_a_minute_says_nothing() -> None:
    egress = tried(20, 0)
    assert egress.is_failing(60.0)
    assert not egress.is_failing(60.1)
    assert (egress.origins, egress.failing) == (0, 0)


def test_nothing_older_than_a_minute_is_kept_though_nobody_asks() -> None:
    egress = Egress()
    for second in range(1000):
        observe(egress, an_owner(second), range(second, second + 1), failed=False, at=second)
    assert egress.origins == 61


def test_it_is_told_once_a_minute() -> None:
    egress = Egress()
    assert [at for at in range(0, 150, 10) if egress.should_log(at)] == [0, 60, 120]


Pair = tuple[int, int, int]


def says(recent: Mapping[Pair, bool]) -> bool:
    """The rule, by a look at everything: PIM, client and host, and whether the latest attempt failed."""

    def most(group: Iterable[bool]) -> bool:
        members = list(group)
        return 2 * sum(members) > len(members)

    def failing(part: Callable[[Pair], Hashable]) -> dict[Hashable, bool]:
        keys = {part(pair) for pair in recent}
        return {key: most(failed for pair, failed in recent.items() if part(pair) == key) for key in keys}

    hosts, owners = failing(lambda pair: pair[2]), failing(lambda pair: pair[:2])
    pims = {pair[0] for pair in recent}
    failing_pims = [
        most(owners[owner] for owner in {pair[:2] for pair in recent if pair[0] == pim}) for pim in pims
    ]
    counted = sum(min(7, sum(pair[:2] == owner for pair in recent)) for owner in owners)
    return len(hosts) >= 20 and counted >= 20 and most(hosts.values()) and most(failing_pims)


@given(
    attempts=st.lists(
        st.tuples(
            st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 29)),
            st.integers(0, 3),
            st.sampled_from([True, True, False]),
        ),
        max_size=120,
    ),
)
def test_it_says_what_a_look_at_every_latest_attempt_says(
    attempts: list[tuple[Pair, int, bool]],
) -> None:
    egress, latest, now = Egress(), dict[Pair, tuple[int, bool]](), 0
    for pair, seconds, failed in attempts:
        now += seconds
        pim, client, host = pair
        egress.observe(an_owner(client, f"https://{pim}.example"), f"{host}.example", now, failed=failed)
        latest[pair] = (now, failed)
    recent = {pair: failing for pair, (at, failing) in latest.items() if now - at <= 60}
    assert egress.is_failing(now) == says(recent)


# --- a network that comes later ----------------------------------------------------------------------


def test_without_a_connection_yet_a_new_instance_may_have_had_no_network() -> None:
    egress = Egress(network_comes_later=True)
    assert egress.had_no_network(100.0, 105.0, connected=False)
    assert not egress.had_no_network(101.0, 101.1, connected=True)
    assert egress.had_no_network(101.0, 106.0, connected=False), "it began before the connection was made"
    assert not egress.had_no_network(101.2, 106.2, connected=False)


def test_60_seconds_after_the_first_attempt_a_missing_network_is_no_excuse() -> None:
    egress = Egress(network_comes_later=True)
    assert egress.had_no_network(100.0, 105.0, connected=False)
    assert egress.had_no_network(160.0, 165.0, connected=False)
    assert not egress.had_no_network(160.1, 165.1, connected=False)


def test_where_the_network_is_there_from_the_start_nothing_is_excused() -> None:
    assert not Egress().had_no_network(0.0, 5.0, connected=False)
