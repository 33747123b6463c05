"""Changes of a PIM's credentials: new secrets, which are shown once, and the keys of its clients."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal

from pydantic import SecretStr

from .errors import Conflict
from .tenants import MAX_PREVIOUS_KEYS, PimClient, Tenant

OVERLAP = timedelta(hours=1)
"""The time for which a client's key stays good beside a new one, unless another is given."""
MadeSecret = Literal["ingest_key", "relay_secret"]
"""The fields whose secrets are made here. The PIM makes that of its own webhook."""


def with_new_secret(tenant: Tenant, field: MadeSecret) -> tuple[Tenant, str]:
    """Returns the entry with a new secret, beside which the one before stays good, and the secret."""
    made = secrets.token_urlsafe(32)
    kept: tuple[SecretStr, ...] = getattr(tenant, field)
    return tenant.model_copy(update={field: (SecretStr(made), *kept[:1])}), made


def with_events_api_secret(tenant: Tenant, secret: SecretStr) -> Tenant:
    """Returns the entry with the secret before the last one, which stays good for events on their way."""
    others = [kept for kept in tenant.events_api_secret if kept != secret]
    return tenant.model_copy(update={"events_api_secret": (secret, *others[:1])})


def with_new_key(client: PimClient, now: datetime, overlap: timedelta) -> tuple[PimClient, str]:
    """Returns the client with a new platform key, and the key. Earlier ones stay good for the overlap.

    Raises Conflict if too many of them are good.
    """
    key = secrets.token_urlsafe(32)
    changed = client.with_new_key(hashlib.sha256(key.encode()).hexdigest(), now, overlap)
    if len(changed.previous_keys) > MAX_PREVIOUS_KEYS:
        raise Conflict(f"client {client.client_id} has {MAX_PREVIOUS_KEYS} earlier keys that are still good")
    return changed, key


def with_client(tenant: Tenant, client: PimClient) -> Tenant:
    """Returns the entry with that client, in the place where it was."""
    ids = [each.client_id for each in tenant.clients]
    clients = [client if each.client_id == client.client_id else each for each in tenant.clients]
    return tenant.model_copy(
        update={"clients": tuple(clients if client.client_id in ids else [*clients, client])}
    )


def without_client(tenant: Tenant, client_id: str) -> Tenant:
    """Returns the entry without that client."""
    kept = tuple(each for each in tenant.clients if each.client_id != client_id)
    return tenant.model_copy(update={"clients": kept})
