"""Entries of the registry of tenants, and which PIM is whose."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from event_platform.domain.tenants import PimClient, Tenant, Way, may_lack_token_info, tenant_key
from event_platform.domain.urls import normalise_pim_url
from support.clock import START

URL = "https://pim.example.com"
PATTERN = "*.cloud.akeneo.com"
SHA = "0123456789abcdef" * 4


def tenant(**entry: Any) -> Tenant:
    return Tenant.model_validate(entry)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "needs either url or host_pattern"),
        ({"url": URL, "host_pattern": PATTERN}, "needs either url or host_pattern"),
        ({"url": "pim.example.com"}, "must begin with https://"),
        ({"url": "https://pim.example.com?a=b"}, "without query or fragment"),
        ({"url": 5}, "url\n"),
        ({"host_pattern": "*"}, "host_pattern\n"),
        ({"host_pattern": "*.com"}, "host_pattern\n"),
        ({"host_pattern": "cloud.akeneo.com"}, "host_pattern\n"),
        ({"host_pattern": "x*.akeneo.com"}, "host_pattern\n"),
        ({"host_pattern": "*.cloud.*"}, "host_pattern\n"),
        ({"host_pattern": "*.Cloud.akeneo.com"}, "host_pattern\n"),
        ({"host_pattern": "*.[a-z].akeneo.com"}, "host_pattern\n"),
        ({"host_pattern": f"https://{PATTERN}"}, "host_pattern\n"),
        ({"host_pattern": PATTERN + "\n"}, "host_pattern\n"),
        ({"host_pattern": PATTERN, "ingest_key": "k"}, "a host_pattern is for management only"),
        ({"host_pattern": PATTERN, "events_api_secret": "k"}, "a host_pattern is for management only"),
        ({"host_pattern": PATTERN, "relay_secret": ["k"]}, "a host_pattern is for management only"),
        ({"host_pattern": PATTERN, "auth": "platform-key"}, "would be good for every PIM of the pattern"),
        ({"url": URL, "key": "Upper"}, "key\n"),
        ({"url": URL, "key": "a/b"}, "key\n"),
        ({"url": URL, "key": "x" * 65}, "key\n"),
        ({"url": URL, "auth": "none"}, "auth\n"),
        ({"url": URL, "clients": [{"client_id": ""}]}, "clients.0.client_id\n"),
        ({"url": URL, "clients": [{"client_id": "a", "key_sha256": SHA.upper()}]}, "clients.0.key_sha256\n"),
        ({"url": URL, "clients": [{"client_id": "a", "key_sha256": SHA[1:]}]}, "clients.0.key_sha256\n"),
        ({"url": URL, "clients": [{"client_id": "a", "key": "k"}]}, "clients.0.key\n"),
        (
            {"url": URL, "clients": [{"client_id": "a", "previous_keys": [{"key_sha256": SHA}]}]},
            "clients.0.previous_keys.0.until\n",
        ),
        ({"url": URL, "token_info_client_id": "client_id"}, "token_info_client_id\n"),
        ({"url": URL, "token_info_client_id": ""}, "token_info_client_id\n"),
        ({"url": URL, "ingest_key": ""}, "ingest_key.0\n"),
        ({"url": URL, "events_api_secret": ""}, "events_api_secret.0\n"),
        ({"url": URL, "relay_secret": ["good", ""]}, "relay_secret.1\n"),
        ({"url": URL, "ingest_key": 5}, "ingest_key\n"),
        ({"url": URL, "ingest_keys": "k"}, "ingest_keys\n"),
    ],
)
def test_a_wrong_entry_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Tenant.model_validate(entry)
    assert message in str(raised.value)


@pytest.mark.parametrize("entry", [None, [], "https://pim.example.com", 5])
def test_what_is_no_object_is_no_entry(entry: object) -> None:
    with pytest.raises(ValidationError):
        Tenant.model_validate(entry)


def test_an_entry_needs_its_url_only() -> None:
    entry = tenant(url="HTTPS://PIM.example.com:443/")
    assert entry.url == URL
    assert (entry.auth, entry.token_info_client_id) == ("token-info", "/client_id")
    assert (entry.ingest_key, entry.events_api_secret, entry.relay_secret) == ((), (), ())


def test_a_credential_is_a_string_or_a_list_of_them() -> None:
    entry = tenant(url=URL, ingest_key="one", relay_secret=["old", "new"])
    assert [key.get_secret_value() for key in entry.ingest_key] == ["one"]
    assert [key.get_secret_value() for key in entry.relay_secret] == ["old", "new"]


def test_credentials_do_not_show() -> None:
    entry = tenant(
        url=URL, ingest_key="one-secret", events_api_secret="two-secret", relay_secret=["three-secret"]
    )
    assert "-secret" not in repr(entry)
    with pytest.raises(ValidationError) as raised:
        tenant(host_pattern=PATTERN, ingest_key="one-secret")
    assert "-secret" not in str(raised.value)


@pytest.mark.parametrize("url", [URL, f"{URL}/", "https://PIM.EXAMPLE.COM:443"])
def test_the_default_key_is_the_start_of_the_hash_of_the_url(url: str) -> None:
    assert tenant(url=url).key == tenant_key(url) == "38cd64c3e1ff8a11"
    assert tenant(url=url, key="").key == "38cd64c3e1ff8a11"
    assert tenant(url=url, key="mine").key == "mine"


def test_clients_are_found_by_their_id() -> None:
    entry = tenant(url=URL, auth="platform-key", clients=[{"client_id": "a", "key_sha256": SHA}])
    found = entry.client("a")
    assert found is not None
    assert found.key_sha256 == SHA
    assert entry.client("A") is None


def test_a_new_key_goes_beside_the_earlier_ones_which_end_with_the_overlap() -> None:
    first, second, third = ("1" * 64, "2" * 64, "3" * 64)
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    client = PimClient(client_id="erp", username="julia").with_new_key(first, START, hour)
    assert client == PimClient(client_id="erp", username="julia", key_sha256=first)
    client = client.with_new_key(second, START, hour).with_new_key(third, START + minute, hour)
    assert client.keys_at(START + hour - minute) == [third, second, first]
    assert client.keys_at(START + hour) == [third, second]
    assert client.keys_at(START + hour + minute) == [third]
    ended = client.with_new_key("4" * 64, START + 2 * minute, timedelta(0))
    assert ended.keys_at(START + 2 * minute) == ["4" * 64]
    assert ended.username == "julia"


def test_a_shorter_overlap_ends_earlier_keys_sooner() -> None:
    client = PimClient(client_id="erp", key_sha256="1" * 64)
    client = client.with_new_key("2" * 64, START, timedelta(hours=1))
    client = client.with_new_key("3" * 64, START, timedelta(minutes=1))
    assert client.keys_at(START + timedelta(minutes=1)) == ["3" * 64]


def test_a_client_without_a_key_has_none_that_is_good() -> None:
    entry = tenant(url=URL, auth="platform-key", clients=[{"client_id": "a", "username": "julia"}])
    assert entry.clients[0].keys_at(START) == []


@pytest.mark.parametrize(
    ("entry", "pim_url", "covered"),
    [
        ({"url": URL}, URL, True),
        ({"url": URL}, f"{URL}/", True),
        ({"url": URL}, "https://PIM.example.com:443", True),
        ({"url": URL}, f"{URL}:8443", False),
        ({"url": URL}, f"{URL}/base", False),
        ({"url": URL}, "http://pim.example.com", False),
        ({"url": URL}, "https://x.pim.example.com", False),
        ({"url": URL}, "https://pim.example.com.evil.example", False),
        ({"url": "http://localhost:8080"}, "http://localhost:8080/", True),
        ({"url": "http://localhost:8080"}, "https://localhost:8080", False),
        ({"host_pattern": PATTERN}, "https://x.cloud.akeneo.com", True),
        ({"host_pattern": PATTERN}, "https://X.Cloud.akeneo.com:443/", True),
        ({"host_pattern": PATTERN}, "https://a.b.cloud.akeneo.com", True),
        ({"host_pattern": PATTERN}, "https://cloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "https://xcloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "https://x.cloud.akeneo.com.evil.example", False),
        ({"host_pattern": PATTERN}, "https://evil.example/x.cloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "https://evil.example/.cloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "https://x.cloud.akeneo.com/base", False),
        ({"host_pattern": PATTERN}, "https://x.cloud.akeneo.com:8443", False),
        ({"host_pattern": PATTERN}, "https://evil.example:8443/x.cloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "http://x.cloud.akeneo.com", False),
        ({"host_pattern": PATTERN}, "http://x.cloud.akeneo.com:443", False),
        ({"host_pattern": PATTERN}, "https://xxcloudyakeneo.com", False),
        ({"host_pattern": PATTERN}, "https://[2606:4700::1]", False),
    ],
)
def test_an_entry_covers_its_own_pims_only(entry: dict[str, Any], pim_url: str, covered: bool) -> None:
    assert Tenant.model_validate(entry).covers(normalise_pim_url(pim_url, allow_http=True)) is covered


@pytest.mark.parametrize(
    ("entry", "may_lack"),
    [
        ({"url": "https://pim.example.com"}, True),
        ({"url": "https://acme.cloud.akeneo.com"}, False),
        ({"url": "https://acme.trial.akeneo.cloud"}, False),
        ({"url": "https://akeneo.com.example.com"}, True),
        ({"url": "https://pim.example.com", "auth": "platform-key"}, False),
        ({"url": "https://pim.example.com", "auth": "probe"}, False),
        ({"host_pattern": PATTERN}, False),
    ],
)
def test_a_pim_outside_of_the_cloud_may_have_no_token_info(entry: dict[str, Any], may_lack: bool) -> None:
    assert may_lack_token_info(Tenant.model_validate(entry)) is may_lack


def test_a_pim_sends_events_by_the_ways_that_it_has_a_credential_for() -> None:
    tenant = Tenant(url="https://pim.example.com", relay_secret="a-secret-of-the-relay")  # type: ignore[arg-type]
    assert [way for way in Way if tenant.takes(way)] == [Way.RELAY]
