"""Proves which PIM a call of ingest is from: by its ingest key, or by the signature of its body.

Strangers may be wrong so often, and what is proved passes (contract/ingest.md 1, docs/decisions/0021, 0053).
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.requests import Request

from ..bodies import Bodies, Share
from ..domain.errors import Unauthenticated, Unavailable
from ..domain.front_door import FrontDoor
from ..domain.tenants import Tenant, Way
from ..http import client_address, note_owner, read_body
from ..ports import Clock, RegistryAtOnce, TenantRegistry
from ..reading import LARGE_BYTES
from .reading import check

SIGNED_BODY_LIMIT = 20 * 1024 * 1024
"""The limit of a body that is signed. A webhook holds up to ten whole products; a PIM sends nothing twice."""
NOBODY = Tenant(url="https://nobody.invalid")
"""A tenant without secrets, in place of one that no entry has: nothing is signed by it."""

Check = Callable[[bytes | bytearray, Sequence[SecretStr]], None]
"""Raises Unauthenticated when none of the secrets signed the body."""


@dataclass(frozen=True, slots=True)
class SignedWay:
    """A way in whose requests are signed: which of a PIM's secrets they are signed with."""

    name: Way
    secrets_of: Callable[[Tenant], Sequence[SecretStr]]


EVENTS_API = SignedWay(Way.EVENTS_API, lambda tenant: tenant.events_api_secret)
RELAY = SignedWay(Way.RELAY, lambda tenant: tenant.relay_secret)


class Credentials:
    """Checks the credentials of callers, and counts how often each address was wrong."""

    def __init__(self, registry: TenantRegistry, clock: Clock) -> None:
        self._registry = registry
        self._callers = Callers(())
        self._door = FrontDoor(clock.monotonic)
        self._bodies = Bodies(clock.monotonic)

    async def holder_of_key(self, request: Request) -> Tenant:
        """Returns the PIM whose ingest key was presented. Raises Unauthenticated and TooManyRequests."""
        presented = digest_of(request.headers.get("authorization", ""))
        tenant = self._callers_of(await self._registry.tenants()).with_ingest_key(presented)
        if tenant is None:
            self._door.count_wrong(client_address(request), presented)
            raise Unauthenticated("the bearer token is not the ingest key of any PIM here", "wrong_key")
        return tenant

    def holder_at_once(self, authorization: str, registry: RegistryAtOnce) -> Tenant | None:
        """Returns the PIM whose ingest key a header presents; None if it is none, or is not known at once.

        Raises Unauthenticated.
        """
        tenants = registry.tenants_at_once()
        return (
            None if tenants is None else self._callers_of(tenants).with_ingest_key(digest_of(authorization))
        )

    def share_of(self, tenant: Tenant) -> Share:
        """Returns the share of a body whose sender is proved."""
        return self._bodies.of(tenant.key)

    def unproved_share(self, request: Request, way: SignedWay) -> Share:
        """Returns the share of a body that is signed, before its signature is known to be right."""
        key: str = request.path_params["key"]

        async def has_reserve() -> bool:
            return bool(way.secrets_of(await self.addressed(request)))

        is_known = self._door.knows((client_address(request), key))
        return self._bodies.unproved((way.name, key), has_reserve, is_known=is_known)

    async def signed_body(
        self, request: Request, share: Share, way: SignedWay, signed_by: Check, *signatures: str
    ) -> tuple[bytes | bytearray, Tenant]:
        """Reads the body, and returns it with the PIM that signed it.

        Raises Unauthenticated, TooManyRequests, TooLarge and Overloaded. Who signed rightly is never refused
        for what others did at its address, so a body is read first, and a wrong signature counted then. Large
        bodies for nobody are not read for who was wrong too often.
        """
        address, key = client_address(request), request.path_params["key"]
        tried = (key, *signatures)
        is_exhausted = self._door.is_exhausted(address) and is_large(request)
        if is_exhausted and not way.secrets_of(await self.addressed(request)):
            self._door.count_wrong(address, tried)
        # Before all that waits: the PIM may hang up.
        body = await read_body(request, SIGNED_BODY_LIMIT, share)
        tenant = await self.addressed(request)
        secrets = way.secrets_of(tenant)
        try:
            await check(signed_by, body, secrets)
        except Unauthenticated as error:
            self._door.count_wrong(address, tried)
            known = "wrong_signature" if secrets else "no_secret"
            error.reason = "unknown_key" if tenant is NOBODY else known
            raise
        self._door.remember((address, key))
        note_owner(request, tenant.name)
        share.prove(tenant.key)
        return body, tenant

    async def addressed(self, request: Request) -> Tenant:
        """Returns the PIM whose path was called, or NOBODY. Raises StoreUnavailable."""
        callers = self._callers_of(await self._registry.tenants())
        return callers.by_path.get(request.path_params["key"], NOBODY)

    async def addressed_name(self, request: Request) -> str:
        """Returns the name of the PIM whose path was called; empty if there is none or it is unknown."""
        try:
            tenant = await self.addressed(request)
        except Unavailable:
            return ""
        return "" if tenant is NOBODY else tenant.name

    def _callers_of(self, tenants: Sequence[Tenant]) -> "Callers":
        if self._callers.tenants is not tenants:
            self._callers = Callers(tenants)
        return self._callers


class Callers:
    """The PIMs of a registry by what their calls present, so that a call costs the same among many PIMs."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self.tenants = tenants
        first_goes_before = tuple(reversed(tenants))
        self.by_path = {tenant.key: tenant for tenant in first_goes_before if tenant.url is not None}
        self._by_digest = {
            digest: tenant for tenant in first_goes_before for digest in reversed(tenant.ingest_key_digests)
        }

    def with_ingest_key(self, presented: bytes) -> Tenant | None:
        """Returns the PIM whose ingest key has that SHA-256.

        The time tells nothing of a key: nobody can choose what the hash of a wrong one begins with, and the
        hashes are compared in constant time.
        """
        tenant = self._by_digest.get(presented)
        if tenant is None:
            return None
        fits = [hmac.compare_digest(digest, presented) for digest in tenant.ingest_key_digests]
        return tenant if any(fits) else None


def is_large(request: Request) -> bool:
    """True if a request says that its body is large, or does not say how large it is."""
    declared = request.headers.get("content-length", "")
    return not declared.isdecimal() or int(declared) > LARGE_BYTES


def digest_of(authorization: str) -> bytes:
    """SHA-256 of the ingest key that the header Authorization presents. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the header Authorization must be 'Bearer ' and the ingest key of a PIM")
    return hashlib.sha256(token.strip().encode("latin-1")).digest()  # as headers are decoded
