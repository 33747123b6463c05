"""The config that is stored from one that was sent (contract/wire.md 4): what is hidden, and what moves."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
import trustme
from pydantic import SecretStr

from event_platform.adapters.seal import AesGcmSeal
from event_platform.documents import subscription_document, subscription_of
from event_platform.domain.errors import InvalidRequest
from event_platform.domain.record import representations as show
from event_platform.domain.subscriptions import (
    REDACTED,
    Config,
    HttpsConfig,
    KafkaConfig,
    PubSubConfig,
    Sasl,
)
from event_platform.manage.configs import config_of
from event_platform.manage.payloads.configs import (
    HttpsBody,
    KafkaBody,
    PubSubBody,
    SaslBody,
    SecretBody,
    TlsBody,
)
from support.records import KAFKA_CONFIG, PUBSUB_CONFIG, a_subscriber, a_subscription, https_config

CONFIGS = [https_config(), PUBSUB_CONFIG, KAFKA_CONFIG, replace(KAFKA_CONFIG, tls=None)]
SECRETS = ["a password of tests", "a client key of tests", "a header value of tests", "a primary secret"]


def sent_back(config: Config) -> Any:
    """The body of a client that read the config and sends it as it was shown."""
    shown = hidden(show.config(config))
    match config:
        case HttpsConfig():
            secret = SecretBody.model_construct(**{"secondary": None, **shown["secret"]})
            return HttpsBody.model_construct(**{**shown, "secret": secret})
        case PubSubConfig():
            return PubSubBody.model_construct(**shown)
        case KafkaConfig():
            sasl = SaslBody.model_construct(**{"scram_variant": None, **shown["sasl_auth"]})
            tls = TlsBody.model_construct(**shown["tls"]) if "tls" in shown else None
            return KafkaBody.model_construct(**{**shown, "sasl_auth": sasl, "tls": tls})


def hidden(shown: Any) -> Any:
    """With the redaction mark as bodies hold it."""
    if isinstance(shown, dict):
        return {name: hidden(value) for name, value in shown.items()}
    return SecretStr(REDACTED) if shown == REDACTED else shown


def problems(wanted: Any, stored: Config | None) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as raised:
        config_of(wanted, stored)
    return {problem.field: problem.message for problem in raised.value.problems}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
def test_what_was_shown_and_is_sent_back_changes_nothing(config: Config) -> None:
    assert config_of(sent_back(config), config) == config
    without_headers = sent_back(config).model_copy(update={"headers": None})
    assert config_of(without_headers, config) == config
    assert config_of(without_headers.model_copy(update={"headers": {}}), config).headers == {}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
def test_nothing_that_is_shown_holds_a_secret(config: Config) -> None:
    text = orjson.dumps(show.config(config)).decode() + repr(config)
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
def test_documents_hold_secrets_sealed_and_give_them_back(config: Config) -> None:
    seal = AesGcmSeal(bytes(32))
    subscription = a_subscription(a_subscriber(), config=config)
    document = orjson.loads(orjson.dumps(subscription_document(subscription, seal)))
    assert not [secret for secret in SECRETS if secret in str(document)]
    assert subscription_of(document, seal) == subscription


def test_kafkas_config_is_shown_in_the_contracts_order() -> None:
    shown: dict[str, Any] = {**show.config(KAFKA_CONFIG)}
    assert list(shown) == ["broker", "topic", "sasl_auth", "tls", "headers"]
    assert shown["sasl_auth"] == {
        "mechanism": "scram",
        "username": "aep",
        "password": REDACTED,
        "scram_variant": "sha-256",
    }
    assert shown["tls"]["client_key_pem"] == REDACTED
    plain = replace(KAFKA_CONFIG, sasl=Sasl("PLAIN", "aep", SecretStr("p")), tls=None)
    shown = {**show.config(plain)}
    assert shown["sasl_auth"] == {"mechanism": "plain", "username": "aep", "password": REDACTED}
    assert "tls" not in shown


def test_hidden_secrets_do_not_follow_to_another_broker() -> None:
    moved = sent_back(KAFKA_CONFIG).model_copy(update={"broker": "other.example.com:9093"})
    why = "must be sent anew when the broker changes"
    assert problems(moved, KAFKA_CONFIG) == {
        "config.sasl_auth.password": why,
        "config.tls.client_key_pem": why,
        "config.headers.X-Stage": why,
    }
    same = sent_back(KAFKA_CONFIG).model_copy(update={"broker": "KAFKA.example.com:9093", "topic": "other"})
    assert config_of(same, KAFKA_CONFIG).headers == KAFKA_CONFIG.headers


def test_hidden_headers_do_not_follow_to_another_origin() -> None:
    stored = https_config(url="https://erp.example.com/events")
    for url in (
        "https://other.example.com/events",
        "https://erp.example.com:8443/events",
        "http://erp.example.com/events",
    ):
        moved = sent_back(stored).model_copy(update={"url": url})
        assert problems(moved, stored) == {
            f"config.headers.{name}": "must be sent anew when the URL's scheme, host or port changes"
            for name in stored.headers
        }
    for url in ("https://erp.example.com/other", "https://ERP.example.com:443/events?a=1"):
        same = sent_back(stored).model_copy(update={"url": url})
        assert config_of(same, stored) == replace(stored, url=url)


@pytest.mark.parametrize(
    ("mechanism", "variant"), [("plain", None), ("scram", "sha-512")], ids=["plain", "another variant"]
)
def test_a_hidden_password_does_not_follow_to_another_mechanism(mechanism: str, variant: str | None) -> None:
    wanted = sent_back(KAFKA_CONFIG)
    sasl = wanted.sasl_auth.model_copy(update={"mechanism": mechanism, "scram_variant": variant})
    assert problems(wanted.model_copy(update={"sasl_auth": sasl}), KAFKA_CONFIG) == {
        "config.sasl_auth.password": "must be sent anew when the SASL mechanism changes"
    }


@pytest.mark.parametrize(
    "tls",
    [None, {"server_name": "other.example.com"}, {"ca_pem": "other authorities"}],
    ids=["none", "another name", "other authorities"],
)
def test_hidden_secrets_do_not_follow_to_weaker_tls(tls: dict[str, str] | None) -> None:
    wanted = sent_back(KAFKA_CONFIG)
    changed = wanted.tls.model_copy(update=tls) if tls is not None else None
    found = problems(wanted.model_copy(update={"tls": changed}), KAFKA_CONFIG)
    why = "must be sent anew when tls is left out, or its server_name or ca_pem changes"
    assert found == {
        "config.sasl_auth.password": why,
        "config.headers.X-Stage": why,
        **({"config.tls.client_key_pem": why} if tls is not None else {}),
    }


def test_secrets_follow_when_tls_begins_or_is_written_in_another_way() -> None:
    before = replace(KAFKA_CONFIG, tls=None)
    assert set(problems(sent_back(KAFKA_CONFIG), before)) == {"config.tls.client_key_pem"}
    wanted = sent_back(KAFKA_CONFIG)
    tls = wanted.tls.model_copy(update={"server_name": "KAFKA.example.com", "ca_pem": "authorities\r\n"})
    assert config_of(wanted.model_copy(update={"tls": tls}), KAFKA_CONFIG).headers == KAFKA_CONFIG.headers


def test_key_and_certificate_must_belong_together() -> None:
    pairs = [a_pair(), a_pair()]
    mark = SecretStr(REDACTED)
    wrong = {"config.tls.client_key_pem": "must be the key of the first certificate in client_cert_pem"}

    def wanted(certificate: str, key: SecretStr) -> KafkaBody:
        body = sent_back(KAFKA_CONFIG)
        tls = body.tls.model_copy(update={"client_cert_pem": certificate, "client_key_pem": key})
        sasl = body.sasl_auth.model_copy(update={"password": SecretStr("p")})
        return body.model_copy(update={"tls": tls, "sasl_auth": sasl, "headers": {}})

    stored = config_of(wanted(*pairs[0]), None)
    assert problems(wanted(pairs[0][0], pairs[1][1]), None) == wrong
    assert problems(wanted(pairs[1][0], mark), stored) == wrong
    assert config_of(wanted(pairs[0][0], mark), stored) == stored
    assert config_of(wanted(*pairs[1]), stored) == config_of(wanted(*pairs[1]), None)


def a_pair() -> tuple[str, SecretStr]:
    """A certificate and its key."""
    issued = trustme.CA().issue_cert("client.test")
    return issued.cert_chain_pems[0].bytes().decode(), SecretStr(issued.private_key_pem.bytes().decode())


def test_hidden_attributes_do_not_follow_to_another_project() -> None:
    moved = sent_back(PUBSUB_CONFIG).model_copy(update={"project_id": "another-project"})
    assert problems(moved, PUBSUB_CONFIG) == {
        "config.headers.X-Stage": "must be sent anew when the project changes"
    }
    assert config_of(moved.model_copy(update={"headers": {}}), PUBSUB_CONFIG) == PubSubConfig(
        "another-project", "pim-events"
    )


@pytest.mark.parametrize("stored", CONFIGS, ids=lambda config: config.type)
@pytest.mark.parametrize("wanted", CONFIGS, ids=lambda config: config.type)
def test_no_hidden_secret_follows_to_another_type(stored: Config, wanted: Config) -> None:
    if stored.type == wanted.type:
        return
    found = problems(sent_back(wanted), stored)
    assert set(found) >= {f"config.headers.{name}" for name in wanted.headers}
    assert not [
        message for message in found.values() if "sent anew" not in message and "nothing" not in message
    ]


def test_a_client_key_is_needed_when_tls_begins() -> None:
    before = replace(KAFKA_CONFIG, tls=None)
    assert problems(sent_back(KAFKA_CONFIG), before) == {
        "config.tls.client_key_pem": "is the redaction mark, but nothing is stored; send the value"
    }
