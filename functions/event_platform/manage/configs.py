"""The config to store from one that was sent: what it hides or leaves out is taken from the one before."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from ..domain.errors import InvalidRequest, Problem
from ..domain.subscriptions import (
    REDACTED,
    Config,
    Headers,
    HttpsConfig,
    KafkaConfig,
    PubSubConfig,
    Sasl,
    Tls,
)
from ..domain.urls import host_of
from .payloads import ConfigBody, HttpsBody, KafkaBody, PubSubBody, SaslBody, TlsBody

_NOTHING_STORED = "is the redaction mark, but nothing is stored; send the value"


def config_of(wanted: ConfigBody, stored: Config | None) -> Config:
    """`wanted`, with what is redacted in it or absent from it taken from `stored` (wire contract 4).

    What would let somebody see a hidden secret does not follow to another host, broker, project or type of
    destination: all but signing secrets. Raises InvalidRequest.
    """
    keeping = _Keeping()
    match wanted:
        case HttpsBody():
            config = _https(wanted, stored, keeping)
        case PubSubBody():
            config = _pubsub(wanted, stored, keeping)
        case KafkaBody():
            config = _kafka(wanted, stored, keeping)
    if keeping.problems:
        raise InvalidRequest(*keeping.problems)
    return config


@dataclass(slots=True)
class _Keeping:
    """Takes what is stored for what is redacted, and collects what cannot be."""

    problems: list[Problem] = field(default_factory=list[Problem])

    def secret(
        self, name: str, value: SecretStr, kept: SecretStr | None, why: str = _NOTHING_STORED
    ) -> SecretStr:
        if value.get_secret_value() != REDACTED:
            return value
        if kept is None:
            self.problems.append(Problem(f"config.{name}", why))
        return kept or SecretStr("")

    def headers(self, wanted: Headers | None, stored: Config | None, moved: str | None) -> Headers:
        named = wanted
        if named is None:
            named = dict.fromkeys(stored.headers, SecretStr(REDACTED)) if stored else {}
        known = (
            {name.lower(): value for name, value in stored.headers.items()} if stored and not moved else {}
        )
        why = moved or _NOTHING_STORED
        return {
            name: self.secret(f"headers.{name}", value, known.get(name.lower()), why)
            for name, value in named.items()
        }


def _https(wanted: HttpsBody, stored: Config | None, keeping: _Keeping) -> HttpsConfig:
    before = stored if isinstance(stored, HttpsConfig) else None
    secret = wanted.secret
    return HttpsConfig(
        wanted.url,
        keeping.secret("secret.primary", secret.primary, before and before.primary_secret),
        None
        if secret.secondary is None
        else keeping.secret("secret.secondary", secret.secondary, before and before.secondary_secret),
        keeping.headers(wanted.headers, stored, _moved(stored, before, host_of(wanted.url))),
    )


def _pubsub(wanted: PubSubBody, stored: Config | None, keeping: _Keeping) -> PubSubConfig:
    before = stored if isinstance(stored, PubSubConfig) else None
    moved = _moved(stored, before, wanted.project_id)
    return PubSubConfig(wanted.project_id, wanted.topic_id, keeping.headers(wanted.headers, stored, moved))


def _kafka(wanted: KafkaBody, stored: Config | None, keeping: _Keeping) -> KafkaConfig:
    before = stored if isinstance(stored, KafkaConfig) else None
    moved = _moved(stored, before, wanted.broker.lower())
    kept = before if moved is None else None
    return KafkaConfig(
        wanted.broker,
        wanted.topic,
        _sasl(wanted.sasl_auth, kept, keeping, moved or _NOTHING_STORED),
        _tls(wanted.tls, kept, keeping, moved or _NOTHING_STORED) if wanted.tls is not None else None,
        keeping.headers(wanted.headers, stored, moved),
    )


def _sasl(wanted: SaslBody, kept: KafkaConfig | None, keeping: _Keeping, why: str) -> Sasl:
    password = keeping.secret("sasl_auth.password", wanted.password, kept and kept.sasl.password, why)
    mechanism = f"SCRAM-{wanted.scram_variant}" if wanted.mechanism == "scram" else wanted.mechanism
    return Sasl(mechanism.upper(), wanted.username, password)


def _tls(wanted: TlsBody, kept: KafkaConfig | None, keeping: _Keeping, why: str) -> Tls:
    key = kept.tls.client_key_pem if kept is not None and kept.tls is not None else None
    return Tls(
        wanted.server_name,
        wanted.ca_pem,
        wanted.client_cert_pem,
        keeping.secret("tls.client_key_pem", wanted.client_key_pem, key, why),
    )


def _moved(stored: Config | None, before: Config | None, to: str) -> str | None:
    """What is wrong with a hidden secret when events now go elsewhere; None when they do not."""
    if stored is None:
        return None
    match before:
        case None:
            what, where = "the type", None
        case HttpsConfig():
            what, where = "the URL's host", before.host
        case PubSubConfig():
            what, where = "the project", before.project_id
        case KafkaConfig():
            what, where = "the broker", before.broker.lower()
    return None if where == to else f"must be sent anew when {what} changes"
