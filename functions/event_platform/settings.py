"""Settings from the environment, read once (prefix `AEP_`): of one machine, and of each deployed function."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    InstanceOf,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .domain.addresses import IpNetwork
from .domain.attempts import retries
from .domain.deliveries import DeliverPolicy
from .domain.events import catalog
from .domain.events.catalog import Catalog
from .domain.mail_servers import MailServer, check_sender, mail_server_of
from .domain.messages.queue_messages import EVENTS_TOPIC
from .domain.pace.rates import Limits
from .domain.pace.turns import SPREAD_OF_COPIES
from .domain.tenants import Tenant, check_list
from .domain.validation_words import json_words, place_words, words_of

PREFIX = "AEP_"
UNKNOWN_NAMED = 20
"""The largest number of variables that are named though nothing reads them."""


LONGEST_SHOWN = 60
"""The characters of a wrong value that is shown."""
MAX_ADDRESSES = 10
KEEP_SECONDS = 86400
MAX_KEEP_SECONDS = 31 * 86400
MIN_KEPT_BY_A_TOPIC = 600
"""Seconds. https://cloud.google.com/pubsub/docs/topic-properties"""
MIN_KEEP_BYTES, MAX_KEEP_BYTES = 16 * 1024**2, 1024**5
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253}):(?P<port>[0-9]{1,5})")
PACKED_AS = Path(__file__).with_name("archive.txt")
"""The variable with the name of the archive, in an archive that the stack has packed."""
_MAY_HOLD_SECRETS = ("pims", "secrets_key", "registry_key", "feed_key", "smtp_url")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_archive(archive: str) -> str:
    if PACKED_AS.exists() and (packed := PACKED_AS.read_text()) != archive:
        raise ValueError(f"must be {packed}, from which this code is: deploy {archive} again")
    return archive


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        entries = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is {json_words(error)}") from None
    return TypeAdapter(list[Tenant]).validate_python(entries)


def _check_listed(pims: Sequence[Tenant], info: ValidationInfo) -> Sequence[Tenant]:
    check_list(pims, allow_http=info.data.get("dev", False))
    return pims


def _each(value: Any, convert: Callable[[str], Any], expected: str) -> Any:
    """Converts each part of a list with commas. Raises ValueError that names the first wrong one."""
    found: list[Any] = []
    for number, part in enumerate(_split(value)):
        try:
            found.append(convert(part))
        except ValueError:
            raise ValueError(f"{place_words([number])} must be {expected}{_it_is(part)}") from None
    return found


def _delays(value: Any) -> Any:
    return _each(value, _seconds.validate_python, "seconds as in 300,600,1200, above 0 and at most 31 days")


def _networks(value: Any) -> Any:
    return _each(value, ipaddress.ip_network, "a network such as 10.20.0.0/16 or fd12::/16")


def _address(value: str) -> str:
    matched = _ADDRESS.fullmatch(value)
    if matched is None or not 0 < int(matched["port"]) < 65536:
        raise ValueError
    return value


def _addresses(value: Any) -> Any:
    found = _each(value, _address, "host:port, such as 1.1.1.1:443")
    if len(found) > MAX_ADDRESSES:
        raise ValueError(f"must be at most {MAX_ADDRESSES} of host:port, separated by commas")
    return found


def catalog_with(value: Any) -> Any:
    """The shipped catalog with the operator's types: `value` is a JSON list of them, or the path of one.

    Raises ValueError naming the entry and its field.
    """
    if not isinstance(value, str):
        return value
    from .domain.events.own_event_types import extended  # most have none and start without it

    text: str | bytes = value
    if not value.lstrip().startswith("["):
        try:
            text = Path(value).read_bytes()
        except OSError as error:
            raise ValueError(f"the list of event types cannot be read: {error.strerror}") from None
    return extended(catalog.load(), text)


def _public_url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s?#/]([^\s?#]*[^\s?#/])?", value) is None:
        raise ValueError("must begin with https:// or http://, without query, fragment or slash at the end")
    return value


def _console_url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s?#/@]+", value) is None:
        raise ValueError("must be https:// or http:// with a host and no path, as in https://aep.example.com")
    return value


def _smtp_url(value: SecretStr) -> SecretStr:
    mail_server_of(value.get_secret_value(), "")
    return value


def _mail_from(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("smtp_url") is not None:
        raise ValueError("must be set with AEP_SMTP_URL: the address that mails come from")
    return value if value is None else check_sender(value)


def _keep(value: float) -> float:
    if not 0 <= value <= MAX_KEEP_SECONDS:
        raise ValueError(f"must be 0 to {MAX_KEEP_SECONDS} seconds, which are 31 days; 0 keeps nothing")
    return value


def _catch_up(value: bool, info: ValidationInfo) -> bool:
    if value and info.data.get("keep") == 0:
        raise ValueError("needs AEP_KEEP, which is 0: what is not kept cannot be caught up with")
    return value


def _kept_by_topics(value: int) -> int:
    if value and not MIN_KEPT_BY_A_TOPIC <= value <= MAX_KEEP_SECONDS:
        raise ValueError(
            f"must be {MIN_KEPT_BY_A_TOPIC} to {MAX_KEEP_SECONDS} seconds, as a topic keeps messages for 10"
            " minutes to 31 days; 0 keeps nothing"
        )
    return value


def _keep_bytes(value: Any) -> int:
    try:
        size = int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        size = -1
    if not MIN_KEEP_BYTES <= size <= MAX_KEEP_BYTES:
        raise ValueError("must be a number of bytes, or one with a unit as in 20GiB: 16MiB to 1024TiB")
    return size


Seconds = Annotated[float, Field(gt=0, le=31 * 86400, allow_inf_nan=False)]
TimeoutOfPushes = Annotated[Seconds, Field(le=10)]
"""The time of an attempt on Google Cloud, where a push is answered within the queue's ack deadline."""
_seconds: TypeAdapter[float] = TypeAdapter(Seconds, config={"defer_build": True})
RetryDelays = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_delays)]
Networks = Annotated[tuple[IpNetwork, ...], NoDecode, BeforeValidator(_networks)]
Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_addresses)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
ConsoleUrl = Annotated[str, AfterValidator(_console_url)]
CatchUp = Annotated[bool, AfterValidator(_catch_up)]
KeptByTopics = Annotated[int, AfterValidator(_kept_by_topics)]
KeepBytes = Annotated[int, BeforeValidator(_keep_bytes)]
PerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False)]
EventTypes = Annotated[InstanceOf[Catalog], NoDecode, BeforeValidator(catalog_with)]
SmtpUrl = Annotated[SecretStr, AfterValidator(_smtp_url)]
MailFrom = Annotated[str | None, AfterValidator(_mail_from), Field(validate_default=True)]
Connections = Annotated[int, Field(ge=16, le=16_384)]
Proxies = Annotated[int, Field(ge=0, le=16)]
LogLevel = Literal["debug", "info", "warning", "error"]
ServiceAccount = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}@[a-z0-9.-]{1,200}\.gserviceaccount\.com$")]
Archive = Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e]+$"), AfterValidator(_check_archive)]
VersionBuckets = Annotated[int, Field(ge=1, le=64)]
Topic = Annotated[str, Field(min_length=3, max_length=255, pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]+$")]


# `defer_build` below: a process reads one of these models, and building them all takes 15 ms.


class DestinationSettings(BaseSettings):
    """The service account that publishes to subscribers' Pub/Sub topics."""

    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True, defer_build=True)

    destination_account: ServiceAccount | None = None


class AttemptSettings(BaseSettings):
    """Settings of attempts and their pace. Times are seconds and may have fractions."""

    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True, defer_build=True)

    retry_delays: RetryDelays = retries.HTTPS_SECONDS
    rate_min: PerSecond = 1
    rate_max: PerSecond = 100
    timeout: Seconds = 5
    max_age: Seconds = 3 * 86400

    def deliver_policy(self) -> DeliverPolicy:
        """The part of the settings that decides about attempts."""
        return DeliverPolicy(
            retry_delays=[timedelta(seconds=delay) for delay in self.retry_delays],
            max_age=timedelta(seconds=self.max_age),
            timeout=self.timeout,
        )

    def rate_limits(self) -> Limits:
        """Returns the bounds of a subscription's rate."""
        return Limits(self.rate_min, self.rate_max)


class Settings(AttemptSettings, DestinationSettings):
    """Settings of the platform on one machine."""

    pims: str | None = None  # a path, or the list itself when it begins with [
    dev: bool = False
    allow_networks: Networks = ()
    refuse_networks: Networks = ()
    secrets_key: SecretStr | None = None
    public_url: PublicUrl | None = None
    console_url: ConsoleUrl | None = None
    app_console: bool = False  # on the public port
    smtp_url: SmtpUrl | None = None
    mail_from: MailFrom = None
    log_level: LogLevel = "info"
    log_format: Literal["json", "text"] | None = None  # text on a terminal
    trusted_proxies: Proxies = 0
    connections: Connections = 4096
    keep: Annotated[float, AfterValidator(_keep)] = KEEP_SECONDS  # 0: nothing is kept
    keep_bytes: KeepBytes = 1024**3  # may have a unit
    catch_up: CatchUp = False  # of new subscriptions
    event_types: EventTypes = Field(default_factory=catalog.load)  # own ones: as pims, a path or the list

    def mail_server(self) -> MailServer | None:
        """The mail server; None if there is none."""
        return _mail_server(self.smtp_url, self.mail_from)


class FunctionSettings(BaseSettings):
    """Settings of every function on Google Cloud.

    `archive` is the name of the source archive that was deployed, for /health. The code has to be from it:
    after a build that failed, Google may start the code of before with the settings of now. With
    `await_network` the port opens only when Firestore and one of these addresses can be connected to.
    """

    model_config = SettingsConfigDict(
        env_prefix="AEP_", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    project: Annotated[str, Field(min_length=1, validation_alias="GOOGLE_CLOUD_PROJECT")]
    log_level: LogLevel = "info"
    trusted_proxies: Proxies = 1  # Google's front end
    archive: Archive | None = None
    await_network: Addresses = ()


class RecordsSettings(FunctionSettings):
    """Settings of functions that read records."""

    version_buckets: VersionBuckets = 1
    dev: bool = False
    allow_networks: Networks = ()
    refuse_networks: Networks = ()


class SecretsSettings(RecordsSettings):
    """Settings of functions that read the secrets of subscribers and subscriptions, which this key seals."""

    secrets_key: SecretStr


class RegistrySettings(RecordsSettings):
    """Settings of functions that read the registry of PIMs. `pims` go before its entries."""

    pims: Annotated[Sequence[Tenant], NoDecode, BeforeValidator(_listed), AfterValidator(_check_listed)] = ()


class MaintainSettings(RegistrySettings):
    """Settings of `maintain`. `fanout_url` is where replays are pushed to, as the account `fanout_caller`.

    `feed_key` seals the secrets of feeds, which nobody else reads. Without it there are no feeds.
    """

    fanout_url: PublicUrl | None = None
    fanout_caller: ServiceAccount | None = None
    feed_key: SecretStr | None = None
    topic_events: Topic = EVENTS_TOPIC


class CatalogSettings(RecordsSettings):
    """Settings of functions that know event types: the same own ones in all of them."""

    event_types: EventTypes = Field(default_factory=catalog.load)


class ManageSettings(CatalogSettings, RegistrySettings, SecretsSettings, DestinationSettings):
    """Settings of `manage`. `public_url` is where it is reached, which else is taken from each request.

    `keep` is how long the topics of events keep messages, to which the stack sets them.
    """

    public_url: PublicUrl | None = None
    topic_events: Topic = EVENTS_TOPIC  # takes the test events of benchmarks
    keep: KeptByTopics = KEEP_SECONDS
    catch_up: CatchUp = False  # of new subscriptions
    timeout: TimeoutOfPushes = 5


class IngestSettings(CatalogSettings, RegistrySettings):
    """Settings of `ingest`, the only one that reads the secrets of PIMs, which the registry's key seals.

    With `feeds` it notes what the webhooks of PIMs with a feed bring.
    """

    registry_key: SecretStr
    feeds: bool = False
    topic_events: Topic = EVENTS_TOPIC


class FanoutSettings(CatalogSettings, RegistrySettings):
    """Settings of `fanout`. `public_url` is where `manage` is reached: the schemas are there."""

    public_url: PublicUrl
    deliveries_shards: Annotated[int, Field(ge=1, le=1000)] = 1


class DeliverSettings(CatalogSettings, SecretsSettings, AttemptSettings, DestinationSettings):
    """Settings of `deliver`, which answers each push within the queue's ack deadline.

    `keep` is the same as of `manage`.
    """

    keep: KeptByTopics = KEEP_SECONDS
    timeout: TimeoutOfPushes = 5

    def rate_limits(self) -> Limits:
        """Returns the limits for instances that keep copies of the rate."""
        return replace(super().rate_limits(), spread=SPREAD_OF_COPIES)


class NotifySettings(SecretsSettings):
    """Settings of `notify`. `public_url` is where `manage` is reached: mails say what to call there."""

    public_url: PublicUrl | None = None
    smtp_url: SmtpUrl | None = None
    mail_from: MailFrom = None

    def mail_server(self) -> MailServer | None:
        """The mail server; None if there is none."""
        return _mail_server(self.smtp_url, self.mail_from)


def _mail_server(smtp_url: SecretStr | None, mail_from: str | None) -> MailServer | None:
    if smtp_url is None or mail_from is None:
        return None
    return mail_server_of(smtp_url.get_secret_value(), mail_from)


def unknown_variables(environment: Mapping[str, str], *more: str) -> Mapping[str, str | None]:
    """The `AEP_` variables that nothing here reads, each with the known name that is most like it.

    `more` are names that are read elsewhere. A variable that is misspelt would else be ignored in silence.
    """
    known = set(more)
    for model in (
        Settings,
        ManageSettings,
        IngestSettings,
        FanoutSettings,
        DeliverSettings,
        MaintainSettings,
        NotifySettings,
    ):
        fields = model.model_fields.items()
        known |= {PREFIX + name.upper() for name, field in fields if field.validation_alias is None}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(get_close_matches(name, known, n=1)), None) for name in unknown[:UNKNOWN_NAMED]}


def wrong_setting(error: ValidationError) -> str:
    """Says which variable is wrong, which entry of it, what it has, and what was expected.

    The value of one that may hold secrets is left out.
    """
    first = error.errors(include_url=False)[0]
    name, *place = first["loc"]
    variable = str(name) if str(name).isupper() else PREFIX + str(name).upper()
    said = words_of(first)
    is_shown = not place and name not in _MAY_HOLD_SECRETS and not said.startswith("entry ")
    what = ": ".join(filter(None, (variable, place_words(place), said)))
    return what + _it_is(first["input"]) if is_shown else what


def _it_is(value: object) -> str:
    """Shows a wrong value: " (it is soon)"; nothing of one that is long, or may have a password in a URL."""
    if not isinstance(value, str | int | float) or len(text := str(value)) > LONGEST_SHOWN or "@" in text:
        return ""
    return f" (it is {text})" if text and text.isprintable() else f" (it is {text!r})"
