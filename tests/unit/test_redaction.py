"""Bodies as log entries show them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.record.redaction import MAX_BODY, MAX_TEXT, TOO_LARGE, Redaction
from event_platform.domain.subscriptions import REDACTED
from support.cpu import cpu_seconds

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
    assert Redaction(body).shown() == body


def test_names_of_headers_are_shown_and_their_values_are_not() -> None:
    body = {"config": {"headers": {"X-Key": "value", "X-Other": 1}}}
    assert Redaction(body).shown() == {"config": {"headers": {"X-Key": REDACTED, "X-Other": REDACTED}}}


@pytest.mark.parametrize("place", ["secret", "Config", "passwort", "client_key_pem"])
def test_what_is_unknown_is_not_shown(place: str) -> None:
    assert Redaction({place: {"a": 1}}).shown() == {place: REDACTED}


def test_a_secret_that_stands_twice_is_nowhere_shown() -> None:
    body = {"name": "it is 0123456789", "config": {"secret": {"primary": "0123456789"}}}
    assert Redaction(body).shown()["name"] == f"it is {REDACTED}"
    assert Redaction(body).scrubbed("name: 0123456789 is wrong") == f"name: {REDACTED} is wrong"


def test_credentials_in_a_url_are_not_shown() -> None:
    body = {"config": {"url": "https://me:pass@example.com/hook"}}
    assert Redaction(body).shown() == {"config": {"url": f"https://{REDACTED}@example.com/hook"}}


def test_a_private_key_is_not_shown_where_a_certificate_belongs() -> None:
    body = {"config": {"tls": {"ca_pem": "-----BEGIN RSA PRIVATE KEY-----"}}}
    assert Redaction(body).shown() == {"config": {"tls": {"ca_pem": REDACTED}}}


def test_a_body_with_very_many_hidden_texts_is_left_out() -> None:
    assert Redaction({str(number): f"secret {number}" for number in range(1000)}).shown() == TOO_LARGE


def test_a_body_of_very_many_values_is_left_out() -> None:
    assert Redaction({"events": ["x"] * 100_000}).shown() == TOO_LARGE


def test_a_long_text_is_cut() -> None:
    assert Redaction({"name": "x" * 5000}).shown() == {"name": "x" * MAX_TEXT + "…"}


@pytest.mark.parametrize(
    "text",
    [
        "x" * (MAX_TEXT - 3) + "0123456789" + "x" * 100,
        "x" * (MAX_TEXT - 10) + "//user:password" + "x" * 100 + "@example.com",
    ],
)
def test_a_text_that_would_be_cut_within_a_secret_is_not_shown(text: str) -> None:
    assert Redaction({"name": text, "secret": "0123456789"}).shown()["name"] == REDACTED


def test_a_body_is_read_once_for_its_secrets() -> None:
    body = {f"key {number}": "ab" * 500 + str(number) for number in range(95)} | {"events": ["ab" * 60] * 100}
    message = "events.0: " + "ab" * 300

    def refuse() -> None:
        redaction = Redaction(body)
        redaction.shown()
        for _ in range(41):
            redaction.scrubbed(message)

    assert cpu_seconds(refuse) < 0.05


@given(JSON)
def test_every_body_becomes_json_within_its_bound(body: Any) -> None:
    assert len(orjson.dumps(Redaction(body).shown())) <= MAX_BODY
