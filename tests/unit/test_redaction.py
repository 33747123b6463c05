"""Bodies as log entries show them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.redaction import MAX_BODY, TOO_LARGE, redacted, scrubbed
from event_platform.domain.subscriptions import REDACTED

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: (
        st.lists(below) | st.dictionaries(st.text() | st.sampled_from(["config", "headers", "name"]), below)
    ),
)


def test_what_is_harmless_is_shown() -> None:
    body = {
        "name": "ERP",
        "contact": {"technical_email": "ops@example.com", "notification_channels": ["email"]},
        "events": ["a", "b"],
        "send_product_identifier": True,
        "filter": None,
    }
    assert redacted(body) == body


def test_names_of_headers_are_shown_and_their_values_are_not() -> None:
    body = {"config": {"headers": {"X-Key": "value", "X-Other": 1}}}
    assert redacted(body) == {"config": {"headers": {"X-Key": REDACTED, "X-Other": REDACTED}}}


@pytest.mark.parametrize("place", ["secret", "Config", "passwort", "client_key_pem"])
def test_what_is_unknown_is_not_shown(place: str) -> None:
    assert redacted({place: {"a": 1}}) == {place: REDACTED}


def test_a_secret_that_stands_twice_is_nowhere_shown() -> None:
    body = {"name": "it is 0123456789", "config": {"secret": {"primary": "0123456789"}}}
    assert redacted(body)["name"] == f"it is {REDACTED}"
    assert scrubbed("name: 0123456789 is wrong", body) == f"name: {REDACTED} is wrong"


def test_credentials_in_a_url_are_not_shown() -> None:
    body = {"config": {"url": "https://me:pass@example.com/hook"}}
    assert redacted(body) == {"config": {"url": f"https://{REDACTED}@example.com/hook"}}


def test_a_private_key_is_not_shown_where_a_certificate_belongs() -> None:
    body = {"config": {"tls": {"ca_pem": "-----BEGIN RSA PRIVATE KEY-----"}}}
    assert redacted(body) == {"config": {"tls": {"ca_pem": REDACTED}}}


def test_a_body_with_very_many_hidden_texts_is_left_out() -> None:
    assert redacted({str(number): f"secret {number}" for number in range(1000)}) == TOO_LARGE


@given(JSON)
def test_every_body_becomes_json_within_its_bound(body: Any) -> None:
    assert len(orjson.dumps(redacted(body))) <= MAX_BODY
