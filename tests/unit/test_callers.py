"""Which PIM a call is from: found by what it presents, at the same cost among many PIMs."""

import hashlib

import pytest

from event_platform.domain.tenants import Tenant
from event_platform.ingest.credentials import Callers


def a_pim(name: str, *keys: str) -> Tenant:
    return Tenant.model_validate({"url": f"https://{name}.example.com", "ingest_key": keys})


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def test_a_pim_is_found_by_each_of_its_keys_and_by_its_path() -> None:
    one, two = a_pim("one", "the first key of one", "the second key of one"), a_pim("two", "the key of two")
    pattern = Tenant(host_pattern="*.example.com")
    callers = Callers([one, two, pattern])
    for key in ("the first key of one", "the second key of one"):
        assert callers.with_ingest_key(digest(key)) is one
    assert callers.with_ingest_key(digest("the key of two")) is two
    assert callers.with_ingest_key(digest("the key of nobody")) is None
    assert callers.by_path == {one.key: one, two.key: two}


def test_the_first_pim_has_a_key_that_two_have() -> None:
    one, two = a_pim("one", "a key that two have"), a_pim("two", "a key that two have")
    assert Callers([one, two]).with_ingest_key(digest("a key that two have")) is one


def test_a_call_is_compared_with_the_keys_of_one_pim(monkeypatch: pytest.MonkeyPatch) -> None:
    callers = Callers([a_pim(f"pim-{number}", f"the key of number {number}") for number in range(200)])
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("event_platform.ingest.credentials.hmac.compare_digest", compare)
    assert callers.with_ingest_key(digest("the key of number 150")) is not None
    assert len(compared) == 1
