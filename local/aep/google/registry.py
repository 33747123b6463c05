"""The registry of PIMs in the Firestore of a project, as a command of its operator works on it.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.ports import Seal

from ..errors import WrongKey
from .connection import firestore_of

if TYPE_CHECKING:
    from google.cloud.firestore_v1.base_document import DocumentSnapshot

    from event_platform.adapters.firestore.client import Firestore
    from event_platform.adapters.pim_registry import StoredEntry
    from event_platform.domain.tenants import Tenant


@dataclass(frozen=True, slots=True)
class StoredTenant:
    """An entry as a command read it: `tenant` is None if it cannot be understood."""

    name: str
    tenant: "Tenant | None"
    snapshot: "DocumentSnapshot"


async def read(project: str, seal: Seal) -> Sequence[StoredTenant]:
    """Returns the entries of the project's registry.

    With a KeylessSeal their secrets stay sealed. Raises WrongKey when a secret was sealed with none of the
    seal's keys; StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        return await read_from(firestore, seal)


async def read_from(firestore: "Firestore", seal: Seal) -> Sequence[StoredTenant]:
    """Does the same as `read`, over a connection. Raises WrongKey, StoreUnavailable, what Google refuses."""
    from event_platform.adapters.firestore import tenants

    snapshots = await tenants.stored_entries(firestore)
    entries = [(tenants.entry_of(snapshot), snapshot) for snapshot in snapshots]
    project = firestore.client.project
    return [StoredTenant(entry.name, _tenant(entry, seal, project), snapshot) for entry, snapshot in entries]


async def put(project: str, tenant: "Tenant", seal: Seal, seen: StoredTenant | None) -> None:
    """Adds the entry, or replaces the one that was read; in force within 5 s.

    Raises Conflict when it was changed since; StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.firestore import tenants

        await tenants.put_over(firestore, tenant, seal, None if seen is None else seen.snapshot)


async def remove(project: str, name: str) -> None:
    """Removes the entry, in force within 5 s, and its feed.

    Raises StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        await remove_from(firestore, name)


async def remove_from(firestore: "Firestore", name: str) -> None:
    """Does the same as `remove`, over a connection. Raises StoreUnavailable, and what Google refuses.

    The feed goes first, so that after an end in between the command finds the entry, and can be repeated.
    """
    from event_platform.adapters.firestore import feeds, tenants

    await feeds.remove(firestore, name)
    await tenants.remove(firestore, name)


def _tenant(entry: "StoredEntry", seal: Seal, project: str) -> "Tenant | None":
    try:
        sealed = stored_tenant(entry.document, KeylessSeal())
    except UnreadableEntry:
        return None
    try:
        return stored_tenant(entry.document, seal)
    except UnreadableEntry as error:
        raise WrongKey(
            f"the secrets of {sealed.name} were sealed with none of the keys in AEP_REGISTRY_KEY: take the"
            " stack's (`pulumi config get registryKey`); if that key is lost, `aep pims remove"
            f" {sealed.name} --google {project}` and add it again"
        ) from error
