"""Values that bodies share: names, addresses and secrets."""

from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr, StringConstraints, ValidationInfo

from ...domain import fields, filters
from ...domain.events import catalog
from ...domain.urls import normalise_endpoint_url
from ...first_use import FirstUse
from .body import Rules, is_redacted


def _endpoint_url(value: str, info: ValidationInfo[Rules]) -> str:
    return normalise_endpoint_url(value, allow_http=info.context.allow_http)


def _name(value: str) -> str:
    if len(value) > fields.MAX_NAME_LENGTH or not value.strip():
        raise ValueError(f"must have 1 to {fields.MAX_NAME_LENGTH} characters, not only blanks")
    return value


def _email(value: str) -> str:
    from email_validator import EmailNotValidError, validate_email  # takes 20 ms: not at the start

    if len(value) > fields.MAX_EMAIL_LENGTH:  # which the validator looks at after its slow steps
        raise ValueError(f"must be an e-mail address: it has more than {fields.MAX_EMAIL_LENGTH} characters")
    try:  # internal domains are fine: whoever runs the platform runs its mail server too
        validate_email(value, check_deliverability=False, globally_deliverable=False)
        return value
    except EmailNotValidError:
        pass
    raise ValueError(f"must be an e-mail address{_fault_of_email(value)}")  # without a frame of theirs


def _fault_of_email(value: str) -> str:
    name, at, host = value.rpartition("@")
    if not at:
        return " such as name@example.com: it has no @"
    if not name or not host:
        return f" such as name@example.com: nothing is {'before' if not name else 'after'} the @"
    return ": it has characters, dots or lengths that no address has"


def _secret(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    if not is_redacted(value, info.context) and not (
        fields.MIN_SECRET_LENGTH <= len(value) <= fields.MAX_SECRET_LENGTH
    ):
        raise ValueError(f"must have {fields.MIN_SECRET_LENGTH} to {fields.MAX_SECRET_LENGTH} characters")
    return value


def empty_is_none(value: Any) -> Any:
    return None if value == "" else value


Email = Annotated[str, AfterValidator(_email)]

EndpointUrl = Annotated[str, AfterValidator(_endpoint_url)]

SigningSecret = Annotated[SecretStr, AfterValidator(_secret)]

Name = Annotated[str, AfterValidator(_name)]

NonEmpty = Annotated[str, StringConstraints(min_length=1, max_length=fields.MAX_KAFKA_TEXT_LENGTH)]


def _load() -> None:
    """Loads what the first bodies of a process need: libraries that take up to 60 ms each."""
    from ...domain import tls_material  # noqa: F401

    filters.load()
    _email("someone@bücher.example")
    catalog.load().nearest("")


FIRST_BODY = FirstUse(_load)
