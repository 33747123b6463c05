"""The variables of each function, by its settings model: what is set is what is read."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from event_platform.wiring import SETTINGS

T = TypeVar("T")

SECRETS: Mapping[str, str] = {
    "AEP_SECRETS_KEY": "aep-secrets-key",
    "AEP_REGISTRY_KEY": "aep-registry-key",
    "AEP_FEED_KEY": "aep-feed-key",
    "AEP_PIMS": "aep-pims",
    "AEP_SMTP_URL": "aep-smtp-url",
}
"""The variables that come from Secret Manager, and the secrets' names there."""

PIMS_WITHOUT_SECRETS = "aep-pims-without-secrets"
"""The secret that AEP_PIMS is for functions that take in no events: the list without the PIMs' secrets."""

SET_BY_THE_STACK = frozenset(
    {
        "GOOGLE_CLOUD_PROJECT",
        "AEP_ARCHIVE",
        "AEP_PUBLIC_URL",
        "AEP_DELIVERIES_SHARDS",
        "AEP_DESTINATION_ACCOUNT",
        "AEP_MAIL_FROM",
        "AEP_FEEDS",
        "AEP_FANOUT_URL",
        "AEP_FANOUT_CALLER",
        "AEP_TOPIC_EVENTS",
        *SECRETS,
    }
)
"""The variables that follow from other keys of the configuration or from the deployed archive."""


def variables(function: str) -> Mapping[str, FieldInfo]:
    """The variables that a function reads."""
    fields = SETTINGS[function].model_fields
    return {str(field.validation_alias or f"AEP_{name.upper()}"): field for name, field in fields.items()}


def read_by(function: str, values: Mapping[str, T]) -> dict[str, T]:
    """Returns the values that the function reads."""
    known = variables(function)
    return {variable: value for variable, value in values.items() if variable in known}


def check_setting(variable: str, value: str) -> None:
    """Raises ValueError when no function reads the variable, or one does not take this value."""
    if variable in SET_BY_THE_STACK:
        raise ValueError(f"{variable} is set by the stack itself")
    fields = [known[variable] for function in SETTINGS if variable in (known := variables(function))]
    if not fields:
        raise ValueError(f"no function reads {variable}")
    for field in fields:  # functions may have limits of their own
        try:
            TypeAdapter(Annotated[field.annotation, field]).validate_python(value)  # pyright: ignore
        except ValidationError as error:
            raise ValueError(f"{variable}: {error.errors()[0]['msg']}") from None
