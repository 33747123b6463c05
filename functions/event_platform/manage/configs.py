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
from ..domain.urls import host_and_port_of_broker, origin_of
from .payloads.configs import ConfigBody, HttpsBody, KafkaBody, PubSubBody, SaslBody, TlsBody

_NOTHING_STORED = "is the redaction mark, but nothing is stored; send the value"


def config_of(wanted: ConfigBody, stored: Config | None) -> Config:
    """`wanted`, with what is redacted in it or absent from it taken from `stored` (contract/wire.md 4).

    What would let somebody see a hidden secret does not follow to another origin, broker, project or type of
    destination, nor to TLS that is weaker or trusts others: all but signing secrets. A password does not
    follow to another SASL mechanism. Raises InvalidRequest.
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

    def check_pair(self, certificates_pem: str, key: SecretStr) -> None:
        from ..domain import tls_material

        try:
            tls_material.check_pair(certificates_pem, key.get_secret_value())
        except ValueError as error:
            self.problems.append(Problem("config.tls.client_key_pem", str(error)))

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
        keeping.headers(wanted.headers, stored, _moved(wanted, stored)),
    )


def _pubsub(wanted: PubSubBody, stored: Config | None, keeping: _Keeping) -> PubSubConfig:
    headers = keeping.headers(wanted.headers, stored, _moved(wanted, stored))
    return PubSubConfig(wanted.project_id, wanted.topic_id, headers)


def _kafka(wanted: KafkaBody, stored: Config | None, keeping: _Keeping) -> KafkaConfig:
    before = stored if isinstance(stored, KafkaConfig) else None
    moved = _moved(wanted, stored)
    kept = before if moved is None else None
    return KafkaConfig(
        wanted.broker,
        wanted.topic,
        _sasl(wanted.sasl_auth, kept, keeping, moved or _NOTHING_STORED),
        _tls(wanted.tls, kept, keeping, moved or _NOTHING_STORED) if wanted.tls is not None else None,
        keeping.headers(wanted.headers, stored, moved),
    )


def _sasl(wanted: SaslBody, kept: KafkaConfig | None, keeping: _Keeping, why: str) -> Sasl:
    mechanism = f"SCRAM-{wanted.scram_variant}" if wanted.mechanism == "scram" else wanted.mechanism
    password = kept and kept.sasl.password
    if kept is not None and kept.sasl.mechanism != mechanism.upper():  # PLAIN shows it to the broker
        password, why = None, "must be sent anew when the SASL mechanism changes"
    password = keeping.secret("sasl_auth.password", wanted.password, password, why)
    return Sasl(mechanism.upper(), wanted.username, password)


def _tls(wanted: TlsBody, kept: KafkaConfig | None, keeping: _Keeping, why: str) -> Tls:
    before = kept.tls if kept is not None else None
    key = keeping.secret("tls.client_key_pem", wanted.client_key_pem, before and before.client_key_pem, why)
    is_as_before = before is not None and (wanted.client_cert_pem, key) == (
        before.client_cert_pem,
        before.client_key_pem,
    )
    if key and not is_as_before:
        keeping.check_pair(wanted.client_cert_pem, key)
    return Tls(wanted.server_name, wanted.ca_pem, wanted.client_cert_pem, key)


def _moved(wanted: ConfigBody, stored: Config | None) -> str | None:
    """Returns what is wrong with a hidden secret when events now go elsewhere, or less safely, else None."""
    match wanted, stored:
        case _, None:
            return None
        case HttpsBody(), HttpsConfig():
            has_moved = origin_of(wanted.url) != origin_of(stored.url)
            what = "the URL's scheme, host or port changes"
        case PubSubBody(), PubSubConfig():
            has_moved = wanted.project_id != stored.project_id
            what = "the project changes"
        case KafkaBody(), KafkaConfig():
            has_moved = host_and_port_of_broker(wanted.broker) != host_and_port_of_broker(stored.broker)
            what = "the broker changes"
            if not has_moved:
                has_moved = not _is_as_safe(wanted.tls, stored.tls)
                what = "tls is left out, or its server_name or ca_pem changes"
        case _:
            has_moved, what = True, "the type changes"
    return f"must be sent anew when {what}" if has_moved else None


def _is_as_safe(wanted: TlsBody | None, before: Tls | None) -> bool:
    """True if no broker is trusted that was not before."""
    if before is None:
        return True
    return (
        wanted is not None
        and wanted.server_name.lower() == before.server_name.lower()
        and wanted.ca_pem.split() == before.ca_pem.split()
    )
