"""The `config` of a destination in bodies, with its custom headers (contract/wire.md 4 and 8)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from ...domain import fields
from ...domain.attempts import custom_headers
from ...domain.attempts.broker_messages import TYPE
from ...domain.urls import host_and_port_of_broker
from .body import Body, Rules, is_redacted
from .values import EndpointUrl, NonEmpty, SigningSecret, empty_is_none


def _header_name(name: str) -> str:
    if not fields.fits(custom_headers.NAME, name):
        raise ValueError("the name must be 1 to 128 letters, digits and hyphens")
    if custom_headers.REFUSED.refuses(name):
        raise ValueError("is set by the platform and cannot be a custom header")
    return name


def _record_header_name(name: str) -> str:
    if name.lower() == TYPE:
        raise ValueError("is set by the platform and cannot be a custom header")
    return name


def _attribute_name(name: str) -> str:
    if name.lower().startswith("goog"):
        raise ValueError("begins with goog, which Pub/Sub keeps for itself")
    return _record_header_name(name)


def _header_value(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > custom_headers.MAX_VALUE_LENGTH or not fields.fits(custom_headers.VALUE, text):
        raise ValueError(
            f"the value must be at most {custom_headers.MAX_VALUE_LENGTH} printable ASCII characters"
        )
    is_redacted(value, info.context)
    return value


def _few_headers(headers: Any) -> Any:
    """Checks the number of headers, before each of them is checked and named if it is wrong."""
    if isinstance(headers, dict) and len(headers) > custom_headers.MAX_HEADERS:
        raise ValueError(f"must hold at most {custom_headers.MAX_HEADERS} headers")
    return headers


def _headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("must not name a header twice; names are compared without case")
    return headers


def _authorities(pem: str) -> str:
    from ...domain import tls_material  # takes 20 ms: not at the start

    tls_material.certificates_of(pem, max_characters=tls_material.MAX_CA_CHARACTERS)
    return pem


def _chain(pem: str) -> str:
    from ...domain import tls_material

    tls_material.certificates_of(pem, max_characters=tls_material.MAX_CHAIN_CHARACTERS)
    return pem


def _private_key(pem: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    if is_redacted(pem, info.context):
        return pem
    from ...domain import tls_material

    tls_material.private_key_of(pem.get_secret_value())
    return SecretStr(tls_material.with_right_label(pem.get_secret_value()))


def _password(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    is_redacted(value, info.context)
    if not 1 <= len(value) <= fields.MAX_PASSWORD_LENGTH:
        raise ValueError(f"must have 1 to {fields.MAX_PASSWORD_LENGTH} characters")
    return value


def _broker(value: str) -> str:
    host_and_port_of_broker(value)
    return value


def _project(value: str, info: ValidationInfo[Rules]) -> str:
    info.context.topics.check(value)
    if not fields.fits(fields.PROJECT, value):
        raise ValueError("must be a project's id: 6 to 30 lower-case letters, digits and hyphens")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]

HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]

Headers = Annotated[dict[HeaderName, HeaderValue], BeforeValidator(_few_headers), AfterValidator(_headers)]

Attributes = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_attribute_name)], HeaderValue],
    BeforeValidator(_few_headers),
    AfterValidator(_headers),
]

RecordHeaders = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_record_header_name)], HeaderValue],
    BeforeValidator(_few_headers),
    AfterValidator(_headers),
]


class SecretBody(Body):
    """The signing secrets; each may be the redaction mark where one is stored."""

    primary: SigningSecret
    secondary: Annotated[SigningSecret | None, BeforeValidator(empty_is_none)] = None


class HttpsBody(Body):
    """`config` of an https destination; `headers` is None when the body does not name them."""

    url: EndpointUrl
    secret: SecretBody
    headers: Headers | None = None


class PubSubBody(Body):
    """`config` of a Pub/Sub destination."""

    project_id: Annotated[str, AfterValidator(_project)]
    topic_id: Annotated[str, StringConstraints(pattern=fields.TOPIC)]
    headers: Attributes | None = None


class SaslBody(Body):
    """`sasl_auth` of a Kafka destination."""

    mechanism: Literal["plain", "scram"]
    username: NonEmpty
    password: Annotated[SecretStr, AfterValidator(_password)]
    scram_variant: Literal["sha-256", "sha-512"] | None = None

    @model_validator(mode="after")
    def _scram_has_variant(self) -> "SaslBody":
        if self.mechanism == "scram" and self.scram_variant is None:
            raise ValueError("scram_variant is required for scram: sha-256 or sha-512")
        return self


class TlsBody(Body):
    """`tls` of a Kafka destination."""

    server_name: NonEmpty
    ca_pem: Annotated[str, AfterValidator(_authorities)]
    client_cert_pem: Annotated[str, AfterValidator(_chain)]
    client_key_pem: Annotated[SecretStr, AfterValidator(_private_key)]


class KafkaBody(Body):
    """`config` of a Kafka destination."""

    broker: Annotated[str, AfterValidator(_broker)]
    topic: Annotated[str, StringConstraints(pattern=fields.KAFKA_TOPIC)]
    sasl_auth: SaslBody
    tls: TlsBody | None = None
    headers: RecordHeaders | None = None


ConfigBody: TypeAlias = HttpsBody | PubSubBody | KafkaBody

CONFIGS: Mapping[str, type[ConfigBody]] = {"https": HttpsBody, "pubsub": PubSubBody, "kafka": KafkaBody}
