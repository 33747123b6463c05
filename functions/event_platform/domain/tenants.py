"""Tenants: the PIMs that the platform works for, and how each proves who calls (contract/ingest.md 1)."""

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from .urls import host_and_port, normalise_pim_url
from .validation_words import place_words

CLOUD_HOSTS = (".akeneo.com", ".akeneo.cloud")
MAX_CLIENT_ID_LENGTH = 256
MAX_PREVIOUS_KEYS = 4
"""The most keys of a client that are good beside its newest."""
SECRET_FIELDS = ("ingest_key", "events_api_secret", "relay_secret")
"""The fields of an entry that are secrets of a PIM."""
MIN_PIM_SECRET_LENGTH = 16
STRONG = f"must have at least {MIN_PIM_SECRET_LENGTH} printable ASCII characters"
"""The rule for a secret where it is entered. A registry may hold older ones that break it."""
WEAK_SECRET_FIX = (
    f"each {STRONG}: make others with `aep pims add URL --rotate --rotate-relay`, in a list with"
    " `openssl rand -base64 32`; that of the webhook is made anew in the PIM"
)


PIMS_NAMED = 20
"""The largest number of PIMs that one line of the log names."""
ROUTE_FIX = (
    "if they are self-hosted they have no token-info route, and every token is refused: run"
    " `aep pims add URL --auth platform-key` and `aep pims client URL ID` for each client"
)


class Way(StrEnum):
    """The ways by which a PIM's events come in.

    They are its ingest key, its own webhook, Akeneo's Event Platform, and the feed that reads its REST API.
    """

    CLOUDEVENTS = "cloudevents"
    EVENTS_API = "events-api"
    RELAY = "relay"
    FEED = "feed"


Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def is_client_id(text: str) -> bool:
    """True if a caller can have this client id (contract/wire.md 1), so that records may have it as owner."""
    return 0 < len(text) <= MAX_CLIENT_ID_LENGTH and text.isprintable()


def is_strong(secret: SecretStr, at_least: int = MIN_PIM_SECRET_LENGTH) -> bool:
    """True if a secret of a PIM may be entered; see STRONG."""
    text = secret.get_secret_value()
    return len(text) >= at_least and text.isascii() and text.isprintable()


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _pim_url(text: str) -> str:
    return normalise_pim_url(text, allow_http=True)


Secrets = Annotated[
    tuple[Annotated[SecretStr, Field(min_length=1)], ...],  # with an empty secret anyone could sign
    BeforeValidator(_as_list),
]
"""A credential as a string or a list of strings, so that one can be rotated; none: that way in is closed."""

JsonPointer = Annotated[str, StringConstraints(pattern=r"^(/[^/]*)+$")]


AttributeCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,255}$")]
"""The code of an attribute, as a PIM takes it."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PreviousKey(_Entry):
    """A platform key that another has replaced, and until when it is still good."""

    key_sha256: Sha256Hex
    until: AwareDatetime


class PimClient(_Entry):
    """A client (connection) of a PIM: its platform keys, and its user in the PIM."""

    client_id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CLIENT_ID_LENGTH)]
    key_sha256: Sha256Hex | None = None
    previous_keys: Annotated[tuple[PreviousKey, ...], Field(max_length=MAX_PREVIOUS_KEYS)] = ()
    username: str | None = None

    def keys_at(self, now: datetime) -> list[str]:
        """The SHA-256 of each platform key that is good then, the newest first."""
        newest = [] if self.key_sha256 is None else [self.key_sha256]
        return newest + [key.key_sha256 for key in self.previous_keys if now < key.until]

    def with_new_key(self, key_sha256: str, now: datetime, overlap: timedelta) -> "PimClient":
        """The client with another key, beside which earlier ones stay good for the overlap at most."""
        until = now + overlap
        before = self.previous_keys
        if self.key_sha256 is not None:
            before = (PreviousKey(key_sha256=self.key_sha256, until=until), *before)
        kept = tuple(
            PreviousKey(key_sha256=key.key_sha256, until=min(key.until, until))
            for key in before
            if now < min(key.until, until)
        )
        return self.model_copy(update={"key_sha256": key_sha256, "previous_keys": kept})


class Tenant(_Entry):
    """One entry of the registry: a PIM by its exact `url`, or the PIMs of a `host_pattern` (management only).

    An exact URL was given by the operator and is trusted, so it may be in a private network; hosts
    that match a pattern must have public addresses.
    """

    url: Annotated[str, AfterValidator(_pim_url)] | None = None
    host_pattern: Annotated[str, StringConstraints(pattern=r"^\*(\.[a-z0-9-]+){2,}$")] | None = None
    key: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = ""
    auth: Literal["token-info", "platform-key", "probe"] = "token-info"
    clients: tuple[PimClient, ...] = ()
    token_info_client_id: JsonPointer = "/client_id"  # noqa: S105 - a pointer
    identifier_attribute: AttributeCode | None = None
    ingest_key: Secrets = ()
    events_api_secret: Secrets = Field(default=(), repr=False)
    relay_secret: Secrets = Field(default=(), repr=False)

    @model_validator(mode="before")
    @classmethod
    def _default_key(cls, entry: object) -> object:
        if not isinstance(entry, dict):
            return entry
        fields = cast("dict[str, Any]", entry)
        url = fields.get("url")
        return (
            {**fields, "key": tenant_key(url)} if isinstance(url, str) and not fields.get("key") else fields
        )

    @model_validator(mode="after")
    def _check(self) -> "Tenant":
        if (self.url is None) == (self.host_pattern is None):
            raise ValueError("needs either url or host_pattern")
        if self.host_pattern and (self.ingest_key or self.events_api_secret or self.relay_secret):
            raise ValueError(
                "a host_pattern is for management only: name the PIM's url to take in its events"
            )
        if self.host_pattern and self.auth == "platform-key":
            raise ValueError(
                'a host_pattern needs "auth": "token-info" or "probe": its platform keys would be good for'
                " every PIM of the pattern"
            )
        return self

    def redacted(self) -> "Tenant":
        """The entry for whoever only has to know who the PIM and its clients are."""
        return self.model_copy(update=dict.fromkeys(SECRET_FIELDS, ()))

    @property
    def name(self) -> str:
        """The name of an entry: its URL or its host pattern."""
        return self.url or self.host_pattern or ""

    def takes(self, way: Way) -> bool:
        """True if the PIM has a credential with which it can send events by that way."""
        credentials = {
            Way.CLOUDEVENTS: self.ingest_key,
            Way.EVENTS_API: self.events_api_secret,
            Way.RELAY: self.relay_secret,
        }
        return bool(credentials.get(way))  # the feed has none: nobody sends it anything

    @cached_property
    def ingest_key_digests(self) -> tuple[bytes, ...]:
        """SHA-256 of each ingest key: what presented keys are compared with."""
        return tuple(hashlib.sha256(key.get_secret_value().encode()).digest() for key in self.ingest_key)

    def weak_secrets(self, at_least: int = MIN_PIM_SECRET_LENGTH) -> list[str]:
        """Names the secrets that are shorter, or not printable ASCII, such as `ingest_key.0`."""
        return [
            f"{name}.{index}"
            for name in SECRET_FIELDS
            for index, secret in enumerate(getattr(self, name))
            if not is_strong(secret, at_least)
        ]

    def covers(self, pim_url: str) -> bool:
        """True if a normalised PIM URL is this tenant's."""
        if self.host_pattern is None:
            return pim_url == self.url
        host, _ = host_and_port(pim_url)
        return pim_url == f"https://{host}" and fnmatch.fnmatchcase(host, self.host_pattern)

    def client(self, client_id: str) -> PimClient | None:
        """The listed client of that id."""
        return next((client for client in self.clients if client.client_id == client_id), None)


def may_lack_token_info(tenant: Tenant) -> bool:
    """True for a PIM outside of Akeneo's cloud whose tokens are proved by a route that only the cloud has."""
    host = "" if tenant.url is None else host_and_port(tenant.url)[0]
    return bool(host) and tenant.auth == "token-info" and not host.endswith(CLOUD_HOSTS)


def plain_http_problem(tenant: Tenant, *, allow_http: bool) -> str | None:
    """Returns what is wrong with a PIM without TLS; None if it has TLS, or none is needed."""
    if allow_http or tenant.url is None or not tenant.url.startswith("http:"):
        return None
    return f"{tenant.url}: the URL of a PIM must begin with https:// (http:// works with --dev only)"


class UnusableList(ValueError):
    """Raised when the operator's list of PIMs cannot be used as it is."""


def check_list(listed: Sequence[Tenant], *, allow_http: bool, at_least: int = 1) -> None:
    """Raises UnusableList that names the first entry which may not be in the operator's list.

    Secrets must have `at_least` so many characters. A list is taken as a whole or not at all.
    """
    places: dict[tuple[str, str], int] = {}
    for index, tenant in enumerate(listed):
        for field in tenant.weak_secrets(at_least):
            name, _, number = field.partition(".")
            place = place_words([index, name, int(number)])
            raise UnusableList(f"{place}: {STRONG}, such as `openssl rand -base64 32` makes")
        if (problem := plain_http_problem(tenant, allow_http=allow_http)) is not None:
            raise UnusableList(f"{place_words([index])}, {problem}")
        for name in ("host_pattern",) if tenant.url is None else ("url", "key"):
            if (other := places.setdefault((name, getattr(tenant, name)), index)) != index:
                same = place_words([other])
                raise UnusableList(f"{place_words([index, name])}: must not be the same as in {same}")


def in_force(listed: Sequence[Tenant], stored: Iterable[Tenant]) -> list[Tenant]:
    """The registry of both: a listed entry goes before a stored one of its name, a URL before a pattern."""
    named = {tenant.name for tenant in listed}
    both = [*listed, *(tenant for tenant in stored if tenant.name not in named)]
    return sorted(both, key=lambda tenant: tenant.url is None)


def with_key(tenants: Iterable[Tenant], key: str) -> Tenant | None:
    """The tenant that is known by that key in paths and topics."""
    return next((tenant for tenant in tenants if tenant.url is not None and tenant.key == key), None)


def without_secrets(entries: Iterable[Tenant]) -> list[dict[str, Any]]:
    """The entries as JSON data for who takes no events in: how clients prove themselves, and no secret."""
    return [
        entry.model_dump(mode="json", exclude_defaults=True, exclude=set(SECRET_FIELDS)) for entry in entries
    ]


def tenant_key(url: str) -> str:
    """Short name of a tenant in paths and topics: 16 hex digits, stable for a URL (contract/ingest.md 1)."""
    return hashlib.sha256(_pim_url(url).encode()).hexdigest()[:16]
