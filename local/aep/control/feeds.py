"""The route by which commands change the settings of a feed. The platform goes on with them within 5 s."""

import sqlite3
from collections.abc import Sequence

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.documents import DAMAGED, feed_of
from event_platform.domain.errors import Conflict, InvalidRequest, Problem
from event_platform.domain.feeds import Feed
from event_platform.http import json_response
from event_platform.ports import Seal

from ..store import feeds
from ..store.database import Database
from . import bodies


class FeedChange(BaseModel):
    """The settings of a feed after a change, with sealed secrets, and their version before it, if any.

    `begins_again`: the feed forgets how far it has come.
    """

    model_config = ConfigDict(extra="forbid")

    before: str | None
    after: str
    begins_again: bool


def routes(database: Database, seal: Seal) -> Sequence[Route]:
    async def change(request: Request) -> Response:
        wanted = await bodies.read(request, FeedChange)
        feed = _feed(wanted.after, seal)

        def job(connection: sqlite3.Connection) -> None:
            if feeds.version(connection, feed.tenant) != wanted.before:
                raise Conflict(f"the feed of {feed.tenant} was changed meanwhile: run the command again")
            if wanted.begins_again:
                feeds.begin_again(connection, feed.tenant)
            feeds.put(connection, feed, seal)

        await database.write(job, needs_room=False)
        return json_response({})

    return [Route("/feeds", change, methods=["POST"])]


def _feed(document: str, seal: Seal) -> Feed:
    """Raises InvalidRequest unless the document is a feed's, sealed with the platform's key."""
    try:
        return feed_of(orjson.loads(document), seal)
    except DAMAGED as error:
        raise InvalidRequest(
            Problem("after", "must be the settings of a feed, sealed with the key of the platform")
        ) from error
