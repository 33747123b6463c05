"""Request bodies of the management API: every problem, with its field (contract/wire.md 3, 4 and 8)."""

import base64
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, SecretStr

from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.errors import InvalidRequest
from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import Catalog
from event_platform.manage.payloads.body import Rules, validated
from event_platform.manage.payloads.configs import HttpsBody, KafkaBody, PubSubBody
from event_platform.manage.payloads.subscribers import SubscriberBody, SubscriberPatch
from event_platform.manage.payloads.subscriptions import parse_subscription, parse_subscription_patch
from support.clock import START
from support.cpu import cpu_seconds

REDACTED = "***redacted***"
UPDATED = "com.akeneo.pim.v1.product.updated"
NEW = Rules(
    "https://pim.example.com", allow_http=False, is_new=True, topics=TopicRules(own_project="our-own-project")
)
CHANGE = Rules("https://pim.example.com", allow_http=False, is_new=False)
UPDATED_TYPE = catalog.load()[UPDATED]
SECRET = "s" * 16
BLANK = "must have 1 to 255 characters, not only blanks"
CONTACT: dict[str, Any] = {"technical_email": "ops@example.com"}
SUBSCRIBER: dict[str, Any] = {"name": "ERP", "contact": CONTACT}
HTTPS: dict[str, Any] = {"url": "https://erp.example.com/events", "secret": {"primary": SECRET}}
SUBSCRIPTION: dict[str, Any] = {"events": [UPDATED], "type": "https", "config": HTTPS}
PUBSUB: dict[str, Any] = {"project_id": "my-project", "topic_id": "pim-events"}
SASL: dict[str, Any] = {"mechanism": "plain", "username": "u", "password": "p"}
KAFKA: dict[str, Any] = {"broker": "kafka.example.com:9092", "topic": "pim.events", "sasl_auth": SASL}

Problems = list[tuple[str, str]]


def problems_of(error: InvalidRequest) -> Problems:
    return [(problem.field, problem.message) for problem in error.problems]


def refused(model: Any, body: Any, rules: Rules = NEW) -> Problems:
    with pytest.raises(InvalidRequest) as raised:
        validated(model, body, rules=rules)
    return problems_of(raised.value)


def subscription_refused(body: Any, rules: Rules = NEW) -> Problems:
    with pytest.raises(InvalidRequest) as raised:
        (parse_subscription if rules.is_new else parse_subscription_patch)(body, rules=rules)
    return problems_of(raised.value)


# --- subscribers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert refused(SubscriberBody, body) == [("", "the body must be an object")]
    assert refused(SubscriberPatch, body) == [("", "the body must be an object")]
    assert subscription_refused(body) == [("", "the body must be an object")]
    assert subscription_refused(body, CHANGE) == [("", "the body must be an object")]


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ({}, [("name", "is required"), ("contact", "is required")]),
        ({"name": 5, "contact": 5}, [("name", "must be a string"), ("contact", "must be an object")]),
        ({"name": "", "contact": CONTACT}, [("name", BLANK)]),
        ({"name": " \t", "contact": CONTACT}, [("name", BLANK)]),
        ({"name": "x" * 256, "contact": CONTACT}, [("name", BLANK)]),
        ({"name": "ERP", "contact": {}}, [("contact.technical_email", "is required")]),
        (
            {"name": "ERP", "contact": {"technical_email": None}},
            [("contact.technical_email", "is required")],
        ),
        (
            {
                "name": None,
                "contact": CONTACT
                | {
                    "notification_channels": "email",
                    "notification_webhook_url": "http://hooks.example.com",
                    "notification_webhook_secret": "s" * 15,
                },
            },
            [
                ("name", "is required"),
                ("contact.notification_channels", "must be an array"),
                ("contact.notification_webhook_url", "must begin with https://"),
                ("contact.notification_webhook_secret", "must have 16 to 256 characters"),
            ],
        ),
        (
            {"name": "ERP", "contact": CONTACT | {"notification_channels": ["email", "sms"]}},
            [("contact.notification_channels.1", "must be 'email' or 'webhook'")],
        ),
    ],
)
def test_a_wrong_subscriber_is_refused_with_every_problem(body: dict[str, Any], problems: Problems) -> None:
    assert refused(SubscriberBody, body) == problems


@pytest.mark.parametrize(
    "email", ["", "ops", "@example.com", "a b@example.com", "ops@", "ops@example.com\nx"]
)
def test_an_email_address_must_be_one(email: str) -> None:
    ((field, message),) = refused(SubscriberBody, {"name": "ERP", "contact": {"technical_email": email}})
    assert field == "contact.technical_email"
    assert message.startswith("must be an e-mail address")


@pytest.mark.parametrize("length", [100, 200, 100_000])
@pytest.mark.parametrize("email", ["{}@example.com", "a@{}.com", '"{}"@example.com', "{} <a@example.com>"])
def test_an_email_address_of_combining_characters_costs_little(email: str, length: int) -> None:
    marks = "a" + "\u0315" * (length // 2) + "\u0300" * (length // 2)
    body = {"name": "ERP", "contact": {"technical_email": email.format(marks)}}

    def validate() -> None:
        with suppress(InvalidRequest):
            validated(SubscriberBody, body, rules=NEW)

    assert cpu_seconds(validate) < 0.02


def test_a_subscribers_channels_fold_and_unknown_keys_are_ignored() -> None:
    contact = CONTACT | {"notification_channels": ["webhook", "email", "webhook"], "fax": 1}
    body = validated(
        SubscriberBody, {"id": 5, "status": "deleted", "name": "ERP", "contact": contact}, rules=NEW
    )
    assert body.contact.notification_channels == ["webhook", "email"]
    assert body.model_dump().keys() == {"name", "contact"}


def test_a_patch_knows_what_it_names() -> None:
    body = validated(SubscriberPatch, {"contact": {"notification_webhook_url": None}, "id": 1}, rules=CHANGE)
    assert body.model_fields_set == {"contact"}
    assert body.contact.model_fields_set == {"notification_webhook_url"}
    assert validated(SubscriberPatch, {}, rules=CHANGE).model_fields_set == set()


# --- subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_needs_little_and_has_defaults() -> None:
    body, config = parse_subscription(SUBSCRIPTION, rules=NEW)
    assert (body.source, body.events, body.send_product_identifier) == ("pim", [UPDATED], False)
    assert (body.subject, body.filter, body.options) == (None, None, None)
    assert isinstance(config, HttpsBody)
    assert (config.url, config.secret.primary, config.secret.secondary) == (
        HTTPS["url"],
        SecretStr(SECRET),
        None,
    )
    assert config.headers is None


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"events": []}, [("events", "must hold at least 1")]),
        ({"events": UPDATED}, [("events", "must be an array")]),
        ({"events": [5]}, [("events.0", "must be a string")]),
        (
            {"events": [UPDATED, "com.akeneo.pim.v1.product.update"]},
            [
                (
                    "events.1",
                    f"unknown event type 'com.akeneo.pim.v1.product.update'; did you mean {UPDATED!r}?",
                )
            ],
        ),
        ({"source": "erp"}, [("source", "must be 'pim' or 'benchmark'")]),
        ({"type": "ftp"}, [("type", "must be 'https', 'pubsub' or 'kafka'")]),
        ({"type": []}, [("type", "must be 'https', 'pubsub' or 'kafka'")]),
        ({"subject": "https://other.example.com"}, [("subject", "must be the PIM that X-PIM-URL names")]),
        ({"subject": "pim"}, [("subject", "must begin with https://")]),
        ({"subject": 5}, [("subject", "must be a string")]),
        ({"send_product_identifier": "true"}, [("send_product_identifier", "must be true or false")]),
        ({"send_product_identifier": 1}, [("send_product_identifier", "must be true or false")]),
        ({"options": 5}, [("options", "must be an object")]),
        (
            {"options": {"send_product_identifier_in_changes": "x"}},
            [("options.send_product_identifier_in_changes", "must be true or false")],
        ),
        ({"filter": "x" * 501}, [("filter", "must have at most 500 characters")]),
        ({"filter": " "}, [("filter", "at character 1: expected a field")]),
        ({"filter": 'user: "erp"'}, [("filter", "at character 5: expected '=' or 'in', but found ':'\n")]),
        ({"config": 5}, [("config", "must be an object")]),
        ({"config": {}}, [("config.url", "is required"), ("config.secret", "is required")]),
        (
            {"events": ["x" * 10], "config": HTTPS | {"url": "http://erp.example.com"}},
            [("events.0", "unknown event type"), ("config.url", "must begin with https://")],
        ),
    ],
)
def test_a_wrong_subscription_is_refused_with_every_problem(
    changes: dict[str, Any], problems: Problems
) -> None:
    found = subscription_refused(SUBSCRIPTION | changes)
    assert [field for field, _ in found] == [field for field, _ in problems]
    for (_, message), (_, expected) in zip(found, problems, strict=True):
        assert message.startswith(expected)


def test_an_empty_subscription_names_all_it_needs() -> None:
    required = [("events", "is required"), ("type", "is required"), ("config", "is required")]
    assert subscription_refused({}) == required


def test_what_the_operator_has_to_set_up_first_is_said_once_all_else_is_right() -> None:
    body = SUBSCRIPTION | {"type": "pubsub", "config": PUBSUB}
    rules = replace(NEW, topics=TopicRules(missing="is not set up"))
    assert subscription_refused(body, rules) == [("type", "is not set up")]
    assert subscription_refused(body | {"config": {}}, rules) == [
        ("config.project_id", "is required"),
        ("config.topic_id", "is required"),
    ]


@pytest.mark.parametrize("subject", ["https://pim.example.com", "https://PIM.example.com:443/"])
def test_the_subject_may_name_the_pim_in_any_form(subject: str) -> None:
    assert parse_subscription(SUBSCRIPTION | {"subject": subject}, rules=NEW)[0].subject == subject


def test_the_first_of_very_many_problems_are_told_and_the_others_counted() -> None:
    names = [f"{number}".rjust(128, "x") for number in range(1000)]
    own = Catalog({f"own.type.{number}".ljust(128, "y"): UPDATED_TYPE for number in range(500)})
    rules = replace(NEW, known=own)
    body = SUBSCRIPTION | {"events": names}
    problems = subscription_refused(body, rules)
    assert [field for field, _ in problems] == [*(f"events.{number}" for number in range(100)), ""]
    assert problems[-1] == ("", "and 900 more problems")
    assert cpu_seconds(lambda: subscription_refused(body, rules)) < 0.05


def test_a_list_that_is_too_long_is_refused_without_a_look_at_its_items() -> None:
    body = SUBSCRIPTION | {"events": [5] * 100_000}
    assert subscription_refused(body) == [("events", "must hold at most 1000")]
    assert cpu_seconds(lambda: subscription_refused(body)) < 0.01


def test_event_types_fold_and_unknown_keys_are_ignored() -> None:
    row = {"id": 1, "status": "deleted", "subscriber_id": None, "created_at": 5, "epoch": 9, "new": {}}
    sent = SUBSCRIPTION | row | {"events": [UPDATED, UPDATED], "filter": "", "config": HTTPS | {"new": 1}}
    body, config = parse_subscription(sent, rules=NEW)
    assert body.events == [UPDATED]
    assert not body.model_dump().keys() & row.keys()
    assert "new" not in config.model_dump()


def test_a_patch_of_a_subscription_checks_what_it_names() -> None:
    body, config = parse_subscription_patch({}, rules=CHANGE)
    assert (body.model_fields_set, config) == (set(), None)
    body, config = parse_subscription_patch({"filter": None, "config": HTTPS, "id": 1}, rules=CHANGE)
    assert body.model_fields_set == {"filter", "config"}
    assert config is not None
    assert subscription_refused({"events": [], "config": {"url": 5}}, CHANGE) == [
        ("events", "must hold at least 1"),
        ("config.url", "must be a string"),
        ("config.secret", "is required"),
    ]


# --- https -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        ({"url": "ftp://erp.example.com"}, [("url", "must begin with https://")]),
        ({"url": "https://a@erp.example.com"}, [("url", "must not contain a user name or password")]),
        ({"url": "https://erp.example.com/#a"}, [("url", "must have no fragment")]),
        ({"secret": SECRET}, [("secret", "must be an object")]),
        ({"secret": {}}, [("secret.primary", "is required")]),
        ({"secret": {"primary": ""}}, [("secret.primary", "must have 16 to 256 characters")]),
        ({"secret": {"primary": "s" * 15}}, [("secret.primary", "must have 16 to 256 characters")]),
        ({"secret": {"primary": "s" * 257}}, [("secret.primary", "must have 16 to 256 characters")]),
        (
            {"secret": {"primary": None, "secondary": "s"}},
            [("secret.primary", "is required"), ("secret.secondary", "must have 16 to 256 characters")],
        ),
        ({"headers": ["X-A"]}, [("headers", "must be an object")]),
        ({"headers": {"X-A": 5}}, [("headers.X-A", "must be a string")]),
    ],
)
def test_a_wrong_https_config_is_refused(config: dict[str, Any], problems: Problems) -> None:
    assert refused(HttpsBody, HTTPS | config) == problems


@pytest.mark.parametrize("secondary", [None, ""])
def test_an_empty_secondary_secret_means_none(secondary: str | None) -> None:
    sent = HTTPS | {"secret": {"primary": "s" * 256, "secondary": secondary}}
    assert validated(HttpsBody, sent, rules=NEW).secret.secondary is None


def test_plain_http_is_for_those_who_allow_it() -> None:
    rules = Rules(NEW.pim_url, allow_http=True, is_new=True)
    sent = HTTPS | {"url": "http://localhost:8080/"}
    assert validated(HttpsBody, sent, rules=rules).url == "http://localhost:8080/"


# --- custom headers (contract/wire.md 8) -------------------------------------------------------------

WRONG_NAME = "the name must be 1 to 128 letters, digits and hyphens"
WRONG_VALUE = "the value must be at most 256 printable ASCII characters"
REFUSED = "Content-Type User-Agent X-Correlation-ID Host Authorization Cookie X-AKENEO-SIGNATURE-PRIMARY"
REFUSED += " X-AKENEO-SIGNATURE-ANYTHING Connection Proxy-Connection Keep-Alive TE Trailer Transfer-Encoding"
REFUSED += " Upgrade Content-Length Expect HTTP2-Settings Proxy-Authenticate Proxy-Authorization"


@pytest.mark.parametrize("case", [str, str.lower, str.upper])
@pytest.mark.parametrize("name", REFUSED.split())
def test_names_that_are_the_platforms_are_refused(name: str, case: Any) -> None:
    message = "is set by the platform and cannot be a custom header"
    found = refused(HttpsBody, HTTPS | {"headers": {case(name): "x"}})
    assert found == [(f"headers.{case(name)}", message)]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"": "x"}, WRONG_NAME),
        ({"X A": "x"}, WRONG_NAME),
        ({"X_A": "x"}, WRONG_NAME),
        ({"X-A\n": "x"}, WRONG_NAME),
        ({"X-\u00e9": "x"}, WRONG_NAME),
        ({"X" * 129: "x"}, WRONG_NAME),
        ({"X-A": "x" * 257}, WRONG_VALUE),
        ({"X-A": "x\r\nX-B: y"}, WRONG_VALUE),
        ({"X-A": "x\n"}, WRONG_VALUE),
        ({"X-A": "\t"}, WRONG_VALUE),
        ({"X-A": "\u00e9"}, WRONG_VALUE),
        ({"X-A": REDACTED}, "is the redaction mark, but nothing is stored yet; send the value"),
    ],
)
@pytest.mark.parametrize(("model", "config"), [(HttpsBody, HTTPS), (PubSubBody, PUBSUB), (KafkaBody, KAFKA)])
def test_wrong_headers_are_refused(
    model: Any, config: dict[str, Any], headers: dict[str, str], message: str
) -> None:
    field = f"headers.{next(iter(headers))[:128]}"
    assert refused(model, config | {"headers": headers}) == [(field, message)]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({f"X-{number}": "x" for number in range(6)}, "must hold at most 5 headers"),
        ({"X-A": "1", "x-a": "2"}, "must not name a header twice; names are compared without case"),
    ],
)
def test_headers_that_do_not_go_together_are_refused(headers: dict[str, str], message: str) -> None:
    assert refused(HttpsBody, HTTPS | {"headers": headers}) == [("headers", message)]


def test_every_wrong_header_is_named() -> None:
    found = refused(HttpsBody, HTTPS | {"headers": {"Host": "x", "X-A": "\t", "X-B": "x"}})
    assert [field for field, _ in found] == ["headers.Host", "headers.X-A"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {f"X-{number}": "x" for number in range(5)},
        {"X" * 128: "x" * 256},
        {"X-Api-Key": " ~!printable ASCII"},
        {"X-AKENEO": "x", "X-Akeneo-Signature": "x", "Accept": "x"},
    ],
)
def test_headers_within_the_rules_are_taken(headers: dict[str, str]) -> None:
    taken = validated(HttpsBody, HTTPS | {"headers": headers}, rules=NEW).headers
    assert taken == {name: SecretStr(value) for name, value in headers.items()}


# --- the redaction mark ------------------------------------------------------------------------------

MARKED = HTTPS | {
    "secret": {"primary": REDACTED, "secondary": REDACTED},
    "headers": {"X-A": REDACTED},
}


def test_the_redaction_mark_is_no_value_of_something_new() -> None:
    message = "is the redaction mark, but nothing is stored yet; send the value"
    fields = ["config.secret.primary", "config.secret.secondary", "config.headers.X-A"]
    assert subscription_refused(SUBSCRIPTION | {"config": MARKED}) == [(field, message) for field in fields]
    contact = CONTACT | {"notification_webhook_secret": REDACTED}
    found = refused(SubscriberBody, SUBSCRIBER | {"contact": contact})
    assert found == [("contact.notification_webhook_secret", message)]


def test_the_redaction_mark_means_as_it_was_in_a_change() -> None:
    _, config = parse_subscription_patch({"config": MARKED}, rules=CHANGE)
    assert isinstance(config, HttpsBody)
    assert (config.secret.primary, config.secret.secondary) == (SecretStr(REDACTED), SecretStr(REDACTED))
    assert config.headers == {"X-A": SecretStr(REDACTED)}


# --- pubsub ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"project_id": ""}, "project_id"),
        ({"project_id": "short"}, "project_id"),
        ({"project_id": "My-Project"}, "project_id"),
        ({"project_id": "1-project"}, "project_id"),
        ({"project_id": "my-project-"}, "project_id"),
        ({"project_id": "p" * 31}, "project_id"),
        ({"project_id": "my-project\n"}, "project_id"),
        ({"project_id": "my-project/topics/x"}, "project_id"),
        ({"project_id": 5}, "project_id"),
        ({"project_id": "123456789012"}, "project_id"),
        ({"project_id": "our-own-project"}, "project_id"),
        ({"headers": {"Type": "x"}}, "headers.Type"),
        ({"headers": {"GoogleX": "x"}}, "headers.GoogleX"),
        ({"topic_id": ""}, "topic_id"),
        ({"topic_id": "ab"}, "topic_id"),
        ({"topic_id": "1abc"}, "topic_id"),
        ({"topic_id": "a" * 256}, "topic_id"),
        ({"topic_id": "a/b/c"}, "topic_id"),
        ({"topic_id": None}, "topic_id"),
    ],
)
def test_a_wrong_pubsub_config_is_refused(config: dict[str, Any], field: str) -> None:
    assert [found for found, _ in refused(PubSubBody, PUBSUB | config)] == [field]


@pytest.mark.parametrize("project", ["abcdef", "p" * 30, "example.com:my-project"])
def test_a_pubsub_config_is_taken(project: str) -> None:
    assert validated(PubSubBody, PUBSUB | {"project_id": project}, rules=NEW).project_id == project


# --- kafka -------------------------------------------------------------------------------------------

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kafka.example.com")])
CERTIFICATE = (
    x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, START, START + timedelta(days=1))
    .sign(KEY, hashes.SHA256())
    .public_bytes(serialization.Encoding.DER)
)
VERSION_3, VERSION_8 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"
EC_KEY_OF_SECP112R1 = (
    "MD4CAQEEDrEsb5g4F5AwmmaJ/iyCoAcGBSuBBAAGoSADHgAEyS2so9+tulzCQKbPO6An6ULb4B/yW3d4GAhIYw=="
)


def pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def key_pem(protection: serialization.KeySerializationEncryption) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return KEY.private_bytes(encoding, form, protection).decode()


CERTIFICATE_PEM = pem("CERTIFICATE", CERTIFICATE)
TLS = {
    "server_name": "kafka.example.com",
    "ca_pem": CERTIFICATE_PEM,
    "client_cert_pem": CERTIFICATE_PEM * 2,
    "client_key_pem": key_pem(serialization.NoEncryption()),
}
NO_CERTIFICATE = "must be one or more certificates in PEM"
NO_KEY = (
    "must be a private key in PEM, not encrypted, of one of these kinds: RSA (of at most 8192 bits), EC (of a"
    " named curve) or Ed25519; found "
)


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        ({"sasl_auth": 5}, [("sasl_auth", "must be an object")]),
        (
            {"sasl_auth": {}},
            [(f"sasl_auth.{key}", "is required") for key in ("mechanism", "username", "password")],
        ),
        (
            {"sasl_auth": SASL | {"mechanism": "gssapi"}},
            [("sasl_auth.mechanism", "must be 'plain' or 'scram'")],
        ),
        (
            {"sasl_auth": SASL | {"mechanism": "scram"}},
            [("sasl_auth", "scram_variant is required for scram: sha-256 or sha-512")],
        ),
        (
            {"sasl_auth": SASL | {"mechanism": "scram", "scram_variant": "sha-1"}},
            [("sasl_auth.scram_variant", "must be 'sha-256' or 'sha-512'")],
        ),
        (
            {"sasl_auth": SASL | {"password": REDACTED}},
            [("sasl_auth.password", "is the redaction mark, but nothing is stored yet; send the value")],
        ),
        *(
            (
                {"sasl_auth": SASL | {"password": password}},
                [("sasl_auth.password", "must have 1 to 1024 characters")],
            )
            for password in ("", "p" * 1025)
        ),
        ({"sasl_auth": SASL | {"password": 1}}, [("sasl_auth.password", "must be a string")]),
        ({"tls": {}}, [(f"tls.{key}", "is required") for key in TLS]),
        ({"tls": TLS | {"ca_pem": "x"}}, [("tls.ca_pem", NO_CERTIFICATE)]),
        ({"tls": TLS | {"ca_pem": ""}}, [("tls.ca_pem", NO_CERTIFICATE)]),
        (
            {"tls": TLS | {"client_cert_pem": pem("CERTIFICATE", b"x")}},
            [("tls.client_cert_pem", NO_CERTIFICATE)],
        ),
        (
            {"tls": TLS | {"ca_pem": pem("CERTIFICATE", CERTIFICATE.replace(VERSION_3, VERSION_8, 1))}},
            [("tls.ca_pem", NO_CERTIFICATE)],
        ),
        *(
            (
                {"tls": TLS | {name: TLS["client_key_pem"] + CERTIFICATE_PEM}},
                [(f"tls.{name}", "must hold certificates only, no private key")],
            )
            for name in ("ca_pem", "client_cert_pem")
        ),
        (
            {"tls": TLS | {"client_key_pem": CERTIFICATE_PEM}},
            [("tls.client_key_pem", f"{NO_KEY}a certificate")],
        ),
        (
            {"tls": TLS | {"client_key_pem": key_pem(serialization.BestAvailableEncryption(b"password"))}},
            [("tls.client_key_pem", f"{NO_KEY}an encrypted key (PKCS#8); `openssl pkey` decrypts it")],
        ),
        (
            {"tls": TLS | {"client_key_pem": pem("EC PRIVATE KEY", base64.b64decode(EC_KEY_OF_SECP112R1))}},
            [("tls.client_key_pem", f"{NO_KEY}SEC1 (EC) whose numbers or curve cannot be used")],
        ),
        (
            {"tls": TLS | {"client_key_pem": REDACTED}},
            [("tls.client_key_pem", "is the redaction mark, but nothing is stored yet; send the value")],
        ),
    ],
)
def test_a_wrong_kafka_config_is_refused(config: dict[str, Any], problems: Problems) -> None:
    assert refused(KafkaBody, KAFKA | config) == problems


@pytest.mark.parametrize(
    "broker",
    [
        "",
        "kafka",
        "kafka:",
        "kafka:0",
        "kafka:65536",
        "kafka:9092 ",
        "a:1,b:2",
        "tcp://a:1",
        "a b:1",
        "[::1]",
    ],
)
def test_a_broker_is_host_and_port(broker: str) -> None:
    assert refused(KafkaBody, KAFKA | {"broker": broker}) == [("broker", "must be host:port")]


@pytest.mark.parametrize("topic", ["", "a b", "a/b", "a" * 250, "\u00e9", "a\n"])
def test_a_kafka_topic_has_kafkas_characters(topic: str) -> None:
    ((field, _),) = refused(KafkaBody, KAFKA | {"topic": topic})
    assert field == "topic"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"broker": "[2606:4700::1]:9093"},
        {"tls": TLS, "sasl_auth": SASL | {"mechanism": "scram", "scram_variant": "sha-512"}},
    ],
)
def test_a_kafka_config_is_taken(config: dict[str, Any]) -> None:
    body = validated(KafkaBody, KAFKA | config, rules=NEW)
    assert (KAFKA | config).items() <= dumped(body).items()


def test_a_key_under_the_label_of_another_form_is_kept_under_its_own() -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    text = KEY.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    sent = KAFKA | {"tls": TLS | {"client_key_pem": text.replace("EC PRIVATE", "PRIVATE")}}
    body = validated(KafkaBody, sent, rules=NEW)
    assert body.tls is not None
    assert body.tls.client_key_pem == SecretStr(text)


def test_kafkas_secrets_may_stay_as_they_were_in_a_change() -> None:
    sent = KAFKA | {"sasl_auth": SASL | {"password": REDACTED}, "tls": TLS | {"client_key_pem": REDACTED}}
    body = validated(KafkaBody, sent, rules=CHANGE)
    assert body.sasl_auth.password == SecretStr(REDACTED)
    assert body.tls is not None
    assert body.tls.client_key_pem == SecretStr(REDACTED)


def dumped(body: BaseModel) -> Any:
    """What was sent, with its secrets."""
    return orjson.loads(orjson.dumps(body.model_dump(exclude_unset=True), default=SecretStr.get_secret_value))


# --- what a body shows of itself ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["https", "kafka"])
def test_no_body_shows_its_secrets(kind: str) -> None:
    hidden = "a-secret-of-the-subscriber"
    https = HTTPS | {"secret": {"primary": hidden, "secondary": hidden}}
    kafka = KAFKA | {"sasl_auth": SASL | {"password": hidden}, "tls": TLS}
    config = {"https": https, "kafka": kafka}[kind] | {"headers": {"X-Api-Key": hidden}}
    parsed = [
        *parse_subscription(SUBSCRIPTION | {"type": kind, "config": config}, rules=NEW),
        *parse_subscription_patch({"type": kind, "config": config}, rules=CHANGE),
        validated(
            SubscriberBody,
            SUBSCRIBER | {"contact": CONTACT | {"notification_webhook_secret": hidden}},
            rules=NEW,
        ),
    ]
    shown = repr(parsed) + "".join(map(str, parsed))
    assert hidden not in shown
    assert "PRIVATE KEY" not in shown
