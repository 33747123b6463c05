"""The route by which commands change an entry of the registry of PIMs. The change is in force at its end."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.domain.errors import Conflict, InvalidRequest, Problem
from event_platform.http import json_response
from event_platform.ports import Seal

from ..store import tenants
from ..store.database import Database
from . import bodies


class EntryChange(BaseModel):
    """An entry before and after a change: its document, with sealed secrets, or None for no entry."""

    model_config = ConfigDict(extra="forbid")

    name: str
    before: str | None
    after: str | None


def routes(database: Database, seal: Seal, reread: Callable[[], Awaitable[None]]) -> Sequence[Route]:
    """Returns the route. `reread` has the registry read its entries now."""

    async def change(request: Request) -> Response:
        wanted = await bodies.read(request, EntryChange)
        if wanted.after is not None:
            _check(wanted.name, wanted.after, seal)

        def job(connection: sqlite3.Connection) -> None:
            if tenants.document_of(connection, wanted.name) != wanted.before:
                raise Conflict(f"the entry of {wanted.name} was changed meanwhile: run the command again")
            if wanted.after is None:
                tenants.remove(connection, wanted.name)
            else:
                tenants.put_document(connection, wanted.name, wanted.after)

        await database.write(job, needs_room=False)
        await reread()
        return json_response({})

    return [Route("/pims", change, methods=["POST"])]


def _check(name: str, document: str, seal: Seal) -> None:
    """Raises InvalidRequest unless the document is an entry of that name, sealed with the platform's key."""
    try:
        tenant = stored_tenant(document, seal)
    except UnreadableEntry as error:
        raise InvalidRequest(Problem("after", str(error))) from error
    if tenant.name != name:
        raise InvalidRequest(Problem("after", f"is the entry of {tenant.name}"))
