"""The routes by which the operator has dead letters replayed or dropped."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.http import json_response
from event_platform.ports import Clock

from ..broker import dead_letters
from ..broker.dead_letters import AT_ONCE, Move
from ..store.database import Database
from . import bodies


class Chosen(BaseModel):
    """Dead letters, by their ids."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[int], Field(min_length=1, max_length=AT_ONCE)]


def routes(database: Database, clock: Clock, made_due: Callable[[float], None]) -> Sequence[Route]:
    """Returns the routes. `made_due` is called with the time at which what was replayed is due."""

    async def move(request: Request, job: Move) -> Response:
        ids, now = (await bodies.read(request, Chosen)).ids, clock.now()
        moved = await database.write(lambda connection: job(connection, ids, now), needs_room=False)
        made_due(now.timestamp())
        return json_response({"moved": moved})

    async def replay(request: Request) -> Response:
        return await move(request, dead_letters.replay_some)

    async def drop(request: Request) -> Response:
        return await move(request, dead_letters.drop_some)

    return [
        Route("/dead-letters/replay", replay, methods=["POST"]),
        Route("/dead-letters/drop", drop, methods=["POST"]),
    ]
