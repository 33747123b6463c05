"""The settings of a stack: Pulumi's configuration, read once and checked as a whole.

Keys are in the namespace `event-platform`; project and region are those of the provider (`gcp:project`,
`gcp:region`). docs/operate.md describes each.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Self

import pulumi
from pulumi.runtime import config as pulumi_config
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from event_platform.adapters.seal import keys_from_base64
from event_platform.domain.mail_servers import check_sender, mail_server_of
from event_platform.domain.tenants import (
    MIN_PIM_SECRET_LENGTH,
    Tenant,
    UnusableList,
    check_list,
    without_secrets,
)
from event_platform.settings import KEEP_SECONDS
from event_platform.wiring import SETTINGS

from .environment import check_setting
from .sizes import check_sizes

NAMESPACE = "event-platform"
PROVIDER_KEYS = ("gcp:project", "gcp:region", "gcp:userProjectOverride", "gcp:billingProject")
SECRET_BYTES = 65_536
"""https://cloud.google.com/secret-manager/quotas"""
OWN_VARIABLES_BYTES = 2_048
"""The room for the variables of a function that the stack itself sets; they take less."""
VARIABLES_BYTES = 32_768 - OWN_VARIABLES_BYTES
"""https://cloud.google.com/run/docs/configuring/services/overview-environment-variables"""
SECRET_KEYS = frozenset({"secretsKey", "registryKey", "pims", "smtpUrl"})


class WrongConfiguration(pulumi.RunError):
    """Raised when a key is missing, unknown or wrong: ends the run with one line that names it."""


def _read(value: Any) -> Any:
    """Pulumi hands lists and maps as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a list or a map in YAML, or JSON text") from None


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        hide_input_in_errors=True,
        coerce_numbers_to_str=True,
    )


class PimTopic(_Part):
    """A PIM that publishes its events to a topic of its own, and the account that may do so."""

    pim: str
    publisher: Annotated[str, Field(pattern=r"^(serviceAccount|user|group|principal|principalSet):.+$")]

    @property
    def key(self) -> str:
        """The tenant's key, which names the topic."""
        return Tenant.model_validate({"url": self.pim}).key if "://" in self.pim else self.pim

    @field_validator("pim")
    @classmethod
    def _url_or_key(cls, pim: str) -> str:
        try:
            Tenant.model_validate(
                {"url": pim} if "://" in pim else {"url": "https://pim.example", "key": pim}
            )
        except ValidationError:
            raise ValueError("must be the PIM's URL or the tenant's key") from None
        return pim


Listed = BeforeValidator(_read)
_LIST_OF_PIMS = TypeAdapter(list[Tenant])


def _public(pims: Sequence[Tenant]) -> str:
    return json.dumps(without_secrets(pims))


def _check_size(value: str) -> None:
    """Raises ValueError for more than Secret Manager keeps in a version."""
    if (size := len(value.encode())) > SECRET_BYTES:
        raise ValueError(
            f"takes {size:,} bytes, and Google keeps {SECRET_BYTES:,} in a secret. PIMs beyond that belong in"
            " the registry: `aep pims add URL --google PROJECT`"
        )


class DeploymentSettings(_Part):
    """The whole configuration of a stack."""

    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", alias="gcp:project")]
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+$", alias="gcp:region")]
    user_project_override: Annotated[bool, Field(alias="gcp:userProjectOverride")] = False
    billing_project: Annotated[str | None, Field(alias="gcp:billingProject")] = None
    store_location: Annotated[str, Field(min_length=3)] | None = None
    attempt: Annotated[int, Field(ge=1, le=10_000)] = 1

    secrets_key: SecretStr
    registry_key: SecretStr
    feed_key: SecretStr | None = None
    pims: SecretStr | None = None
    smtp_url: SecretStr | None = None
    mail_from: str | None = None

    pim_topics: Annotated[Sequence[PimTopic], Listed] = ()
    deliveries_shards: Annotated[int, Field(ge=1, le=1000)] = 1
    deliveries_topics: Annotated[int, Field(ge=1, le=1000)] | None = None
    outstanding_messages: Annotated[int, Field(ge=1, le=100_000)] = 1000
    cloud_run_cpus: Annotated[int, Field(ge=1, le=100_000)] = 20
    max_instances: Annotated[Mapping[str, Annotated[int, Field(ge=1, le=1000)]], Listed] = {}
    ingest_min_instances: Annotated[int, Field(ge=0, le=100)] = 0
    settings: Annotated[Mapping[str, str], Listed] = {}

    domain: Annotated[str, Field(pattern=r"^([a-z0-9-]+\.)+[a-z]{2,}$")] | None = None
    all_users: bool = True
    static_egress: bool = False

    alert_emails: Annotated[Sequence[EmailStr], Listed] = ()
    alert_channels: Annotated[Sequence[str], Listed] = ()

    rights_seconds: Annotated[int, Field(ge=0, le=900)] = 120
    protect: bool = True
    point_in_time_recovery: bool = True
    backup_days: Annotated[int, Field(ge=0, le=98)] = 7
    role_suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{0,16}$")] = ""
    labels: Annotated[Mapping[str, str], Listed] = {}

    @field_validator("secrets_key", "registry_key", "feed_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        try:
            keys_from_base64(key.get_secret_value())
        except ValueError:
            raise ValueError(
                "must be the base64 of 32 random bytes: `openssl rand -base64 32`; older keys after a comma"
            ) from None
        return key

    @field_validator("secrets_key", "registry_key", "feed_key", "pims", "smtp_url")
    @classmethod
    def _fits_into_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_size(value.get_secret_value())
        return value

    @field_validator("pims")
    @classmethod
    def _are_pims(cls, pims: SecretStr | None) -> SecretStr | None:
        if pims is not None:
            listed = _LIST_OF_PIMS.validate_json(pims.get_secret_value())
            check_list(listed, allow_http=True, at_least=MIN_PIM_SECRET_LENGTH)
            _check_size(_public(listed))
        return pims

    @field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            mail_server_of(url.get_secret_value(), "")
        return url

    @field_validator("mail_from")
    @classmethod
    def _is_a_sender(cls, sender: str | None) -> str | None:
        return sender if sender is None else check_sender(sender)

    @field_validator("settings")
    @classmethod
    def _are_settings(cls, settings: Mapping[str, str]) -> Mapping[str, str]:
        for variable, value in settings.items():
            check_setting(variable, value)
        taken = sum(len(f"{variable}{value}".encode()) for variable, value in settings.items())
        if taken > VARIABLES_BYTES:
            raise ValueError(
                f"take {taken:,} bytes, and there are {VARIABLES_BYTES:,} beside what the stack sets: Google"
                " gives a function 32 KiB for all its variables"
            )
        return settings

    @field_validator("max_instances")
    @classmethod
    def _are_functions(cls, most: Mapping[str, int]) -> Mapping[str, int]:
        for name in most.keys() - SETTINGS.keys():
            raise ValueError(f"there is no function {name!r}, but {', '.join(SETTINGS)}")
        return most

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        for pair in labels.items():
            if not all(re.fullmatch(r"[a-z0-9_-]{1,63}", part) for part in pair):
                raise ValueError("names and values are 1 to 63 of a-z, 0-9, _ and -")
        return labels

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.topics_of_deliveries < self.deliveries_shards:
            raise ValueError("deliveriesTopics: must not be below deliveriesShards")
        if (self.smtp_url is None) != (self.mail_from is None):
            raise ValueError("smtpUrl: goes together with mailFrom")
        if self._first_key(self.secrets_key) == self._first_key(self.registry_key):
            raise ValueError(
                "registryKey: must be another key than secretsKey, which ingest is not to know; where there"
                " was one key, put it behind the new one, after a comma"
            )
        others = (self._first_key(self.secrets_key), self._first_key(self.registry_key))
        if self.feed_key is not None and self._first_key(self.feed_key) in others:
            raise ValueError(
                "feedKey: must be another key than secretsKey and registryKey, which maintain is not to know"
            )
        if (self.user_project_override or self.billing_project) and self.billing_project != self.project:
            raise ValueError(
                "gcp:billingProject: must be the project of gcp:project, whose quota counts what you deploy;"
                " set it together with gcp:userProjectOverride"
            )
        keys = [topic.key for topic in self.pim_topics]
        if len(keys) != len(set(keys)):
            raise ValueError("pimTopics: names a PIM twice")
        for_development = TypeAdapter(bool).validate_python(self.settings.get("AEP_DEV", False))
        try:
            check_list(self.listed_pims, allow_http=for_development)
        except UnusableList as error:
            raise ValueError(f"pims: {error}") from None
        check_sizes(self)
        return self

    @staticmethod
    def _first_key(keys: SecretStr) -> bytes:
        return keys_from_base64(keys.get_secret_value())[0]

    @property
    def listed_pims(self) -> Sequence[Tenant]:
        """The entries of `pims`."""
        return _LIST_OF_PIMS.validate_json(self.pims.get_secret_value()) if self.pims else []

    @property
    def pims_without_secrets(self) -> str | None:
        """The list of PIMs for functions that take in no events."""
        return _public(self.listed_pims) if self.listed_pims else None

    @property
    def keep(self) -> int:
        """The seconds for which the topics of events keep messages; 0 if they keep none."""
        return int(self.settings.get("AEP_KEEP", KEEP_SECONDS))

    @property
    def topics_of_deliveries(self) -> int:
        """The number of topics `deliveries-N`: more than are written to while old ones run empty."""
        return self.deliveries_topics or self.deliveries_shards


def from_pulumi() -> DeploymentSettings:
    """The configuration of the stack that runs. Raises WrongConfiguration."""
    configuration = {**pulumi_config.get_config_env(), **pulumi_config.CONFIG.get()}
    secret = {key for key in configuration if pulumi_config.is_config_secret(key)}
    return read(configuration, secret | set(pulumi_config.get_config_secret_keys_env()))


def read(configuration: Mapping[str, Any], secret: Collection[str]) -> DeploymentSettings:
    """The settings that these keys, with their namespace, make; `secret` are those kept encrypted.

    Raises WrongConfiguration.
    """
    values = {key: value for key, value in configuration.items() if key in PROVIDER_KEYS}
    for key, value in configuration.items():
        namespace, _, name = key.partition(":")
        if namespace != NAMESPACE:
            continue
        if name in SECRET_KEYS and key not in secret:
            raise WrongConfiguration(f"{key}: is a secret: `pulumi config set --secret {name}`")
        values[name] = value
    try:
        return DeploymentSettings.model_validate(values)
    except ValidationError as error:
        raise WrongConfiguration(_wrong_key(error)) from None


def _wrong_key(error: ValidationError) -> str:
    """The first wrong key and what was expected, without the value that it has."""
    first = error.errors(include_url=False, include_input=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message if message.startswith(PROVIDER_KEYS) else f"{NAMESPACE}:{message}"
    key, *deeper = map(str, first["loc"])
    name = key if key in PROVIDER_KEYS else f"{NAMESPACE}:{key}"
    if first["type"] == "missing" and not deeper:
        secret = " --secret" if key in SECRET_KEYS else ""
        message = f"must be set: `pulumi config set{secret} {key}`"
    if first["type"] == "extra_forbidden":
        message = "is no key that this program knows"
    return f"{'.'.join([name, *deeper])}: {message}"
