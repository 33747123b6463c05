"""How often strangers may be wrong, and whom that holds up."""

import itertools
import tracemalloc

import pytest

from event_platform.domain import front_door
from event_platform.domain.errors import TooManyRequests
from event_platform.domain.front_door import (
    ADDRESS_BURST,
    ADDRESS_PER_SECOND,
    PIM_BURST,
    PIM_PER_SECOND,
    Allowances,
    FrontDoor,
    client_of,
    scheme_of,
    site_of,
)

PIM, OTHER_PIM, PATTERN = "https://pim.example.com", "https://other.example.com", "*.example.com"
STRANGER, CALLER = "192.0.2.1", "198.51.100.7"
_made_up = itertools.count()


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def door(time: Time) -> FrontDoor:
    return FrontDoor(time)


def wrong(door: FrontDoor, times: int, *, address: str = STRANGER, pim: str = "", entry: str = "") -> int:
    """Returns how many of the made-up credentials are told to be wrong; the others are told to wait."""
    looked_at = 0
    for _ in range(times):
        try:
            if pim:
                door.admit_to(pim, entry or pim, address, next(_made_up))
            else:
                door.count_wrong(address, next(_made_up))
        except TooManyRequests:
            continue
        looked_at += 1
    return looked_at


def flood(door: FrontDoor, pim: str, *, entry: str = "") -> int:
    """How many of the credentials that 1,000 addresses make up for a PIM are looked at."""
    return sum(wrong(door, 2, address=f"203.0.113.{n}", pim=pim, entry=entry) for n in range(1000))


def test_an_address_is_wrong_so_often_and_no_more(door: FrontDoor, time: Time) -> None:
    assert wrong(door, 1000) == ADDRESS_BURST
    with pytest.raises(TooManyRequests, match="from this address") as raised:
        door.count_wrong(STRANGER, "another")
    assert raised.value.retry_after == 1 / ADDRESS_PER_SECOND
    time.seconds += raised.value.retry_after
    assert wrong(door, 1000) == 1
    time.seconds += 3600
    assert wrong(door, 1000) == ADDRESS_BURST


def test_one_address_holds_up_no_other(door: FrontDoor) -> None:
    wrong(door, 1000)
    assert wrong(door, 1, address=CALLER) == 1


def test_a_pim_is_asked_for_strangers_so_often_and_no_more(door: FrontDoor, time: Time) -> None:
    assert flood(door, PIM) == PIM_BURST
    with pytest.raises(TooManyRequests, match="for this PIM") as raised:
        door.admit_to(PIM, PIM, CALLER, "token")
    assert raised.value.retry_after == 1
    time.seconds += 10
    assert flood(door, PIM) == 10 * PIM_PER_SECOND


def test_the_flood_at_one_pim_holds_up_no_other(door: FrontDoor) -> None:
    flood(door, PIM)
    assert wrong(door, 1, address=CALLER, pim=OTHER_PIM) == 1


def test_one_address_cannot_use_up_the_allowance_of_a_pim(door: FrontDoor, time: Time) -> None:
    for _ in range(100):
        wrong(door, 100, pim=PIM)
        time.seconds += 1
        assert wrong(door, 1, address=f"198.51.100.{time.seconds}", pim=PIM) == 1


def test_a_refusal_by_the_pims_allowance_takes_nothing_from_the_address(door: FrontDoor) -> None:
    flood(door, PIM)
    assert wrong(door, 100, address=CALLER, pim=PIM) == 0
    assert wrong(door, 100, address=CALLER) == ADDRESS_BURST


def test_what_was_right_takes_nothing(door: FrontDoor) -> None:
    for number in range(1000):
        door.admit_to(PIM, PIM, CALLER, f"token {number}").proved()
    assert wrong(door, 1000, address=CALLER) == ADDRESS_BURST


def test_what_is_being_looked_at_counts_until_it_is_proved(door: FrontDoor) -> None:
    asked = [door.admit_to(PIM, PIM, CALLER, f"token {number}") for number in range(ADDRESS_BURST)]
    with pytest.raises(TooManyRequests):
        door.admit_to(OTHER_PIM, OTHER_PIM, CALLER, "one more")
    asked[0].proved()
    door.admit_to(OTHER_PIM, OTHER_PIM, CALLER, "one more")


def test_a_proved_credential_passes_whatever_strangers_do(door: FrontDoor, time: Time) -> None:
    door.admit_to(PIM, PIM, CALLER, "token").proved()
    flood(door, PIM)
    wrong(door, 1000, address=CALLER)
    door.admit_to(PIM, PIM, CALLER, "token")
    door.admit_to(PIM, PIM, STRANGER, "token")
    time.seconds += front_door.PROVED_FOR_SECONDS
    flood(door, PIM)
    with pytest.raises(TooManyRequests):
        door.admit_to(PIM, PIM, CALLER, "token")


def test_a_new_token_from_where_one_was_proved_passes_the_flood_of_strangers(door: FrontDoor) -> None:
    door.admit_to(PIM, PIM, CALLER, "token").proved()
    flood(door, PIM)
    assert not door.admit_to(PIM, PIM, CALLER, "a new token").must_queue


def test_a_new_token_passes_in_turn_where_one_was_proved(door: FrontDoor) -> None:
    door.admit_to(PIM, PIM, CALLER, "token").proved()
    for number in range(1000):
        assert door.admit_to(PIM, PIM, CALLER, number).must_queue == (number >= ADDRESS_BURST)
    wrong(door, 1000, address=CALLER)
    assert door.admit_to(PIM, PIM, CALLER, "a new token").must_queue
    with pytest.raises(TooManyRequests):
        door.admit_to(OTHER_PIM, OTHER_PIM, CALLER, "a new token")


def test_made_up_names_of_a_pattern_share_one_allowance(door: FrontDoor) -> None:
    looked_at = sum(
        wrong(door, 1, address=f"203.0.113.{n}", pim=f"https://{n}.example.com", entry=PATTERN)
        for n in range(1000)
    )
    assert looked_at == PIM_BURST


def test_a_pim_of_a_pattern_that_proved_somebody_has_its_own(door: FrontDoor) -> None:
    door.admit_to(PIM, PATTERN, CALLER, "token").proved()
    flood(door, OTHER_PIM, entry=PATTERN)
    assert wrong(door, 1, address="198.51.100.8", pim=PIM, entry=PATTERN) == 1


def test_what_is_remembered_is_bounded(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "REMEMBERED", 10)
    door = FrontDoor(time)
    for number in range(1000):
        door.admit_to(f"pim {number}", "entry", f"address {number}", number).proved()
        wrong(door, 1, address=f"address {number}")
    assert len(door._proved) == 10
    assert len(door._addresses._full_at) == 10


def test_an_allowance_that_is_full_again_is_forgotten(time: Time) -> None:
    allowances = Allowances(2, 0.5, time)
    allowances.take("a")
    time.seconds += 4
    assert len(allowances._full_at) == 0


def test_the_same_wrong_credential_counts_once_in_a_minute(door: FrontDoor, time: Time) -> None:
    for _ in range(1000):
        door.count_wrong(STRANGER, "an old key")
    assert wrong(door, 1000) == ADDRESS_BURST - 1
    door.count_wrong(STRANGER, "an old key")
    with pytest.raises(TooManyRequests):
        door.count_wrong(STRANGER, "an older key")
    with pytest.raises(TooManyRequests):
        door.admit_to(PIM, PIM, STRANGER, "an old key")


def test_a_token_that_a_pim_is_asked_about_counts_each_time(door: FrontDoor) -> None:
    for _ in range(ADDRESS_BURST):
        door.admit_to(PIM, PIM, STRANGER, "made up")
    with pytest.raises(TooManyRequests):
        door.admit_to(PIM, PIM, STRANGER, "made up")


def test_nothing_of_what_a_stranger_presents_is_kept(door: FrontDoor) -> None:
    """Path keys and signatures have up to 32 KB each, and may come by the thousand."""
    tracemalloc.start()
    for number in range(ADDRESS_BURST):
        text = f"{number}" + "x" * 32_000
        door.count_wrong(STRANGER, (text, text))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000


def test_who_proved_something_is_known_for_a_day(door: FrontDoor, time: Time) -> None:
    assert not door.knows((CALLER, "key"))
    door.remember((CALLER, "key"))
    wrong(door, 1000, address=CALLER)
    assert door.is_exhausted(CALLER)
    time.seconds += front_door.PROVED_FOR_SECONDS - 1
    assert door.knows((CALLER, "key"))
    assert not door.knows((CALLER, "another key"))
    time.seconds += 1
    assert not door.knows((CALLER, "key"))


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_a_client_counts_by_its_ipv4_address_or_its_64_of_ipv6(address: str, site: str) -> None:
    assert site_of(address) == site


@pytest.mark.parametrize(
    ("forwarded_for", "proxies", "client"),
    [
        ("192.0.2.1", 0, "10.0.0.1"),
        ("192.0.2.1", 1, "192.0.2.1"),
        ("made up, 198.51.100.99,192.0.2.1", 1, "192.0.2.1"),
        ("198.51.100.99, 192.0.2.1, 10.0.0.2", 2, "192.0.2.1"),
        ("192.0.2.1", 2, "10.0.0.1"),
        ("", 1, "10.0.0.1"),
        ("made up", 1, "10.0.0.1"),
        ("192.0.2.1:4711", 1, "10.0.0.1"),
        ("2001:DB8::1", 1, "2001:db8::1"),
        ("192.0.2.1,", 1, "10.0.0.1"),
    ],
)
def test_the_client_is_whom_the_outermost_trusted_proxy_saw(
    forwarded_for: str, proxies: int, client: str
) -> None:
    assert client_of("10.0.0.1", forwarded_for, proxies) == client


@pytest.mark.parametrize(
    ("forwarded_proto", "proxies", "scheme"),
    [
        ("https", 0, "http"),
        ("https", 1, "https"),
        ("HTTPS", 1, "https"),
        ("https, http", 1, "http"),
        ("made up, https, http", 2, "https"),
        ("https", 2, "https"),
        ("", 1, "http"),
        ("javascript", 1, "http"),
    ],
)
def test_the_scheme_is_what_the_outermost_trusted_proxy_saw(
    forwarded_proto: str, proxies: int, scheme: str
) -> None:
    assert scheme_of("http", forwarded_proto, proxies) == scheme
