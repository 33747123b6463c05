"""Events that a PIM publishes to its own topic: what the message holds, as validated events (ingest.md).

CloudEvents in three modes, https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md and
batch mode besides, and bodies of the Events API. Whoever may publish there is the PIM, so nothing is signed.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from ..domain import cloudevents, events_api
from ..domain.catalog import Catalog
from ..domain.errors import Forbidden, InvalidRequest, Problem, TooLarge, UnsupportedMediaType
from ..domain.events import Event
from ..domain.limits import LineLimit
from ..domain.messages import MalformedMessage, Message
from ..domain.tenants import Tenant

log = structlog.get_logger()

PROBLEMS_TOLD = 10


def published_events(
    message: Message, tenant: Tenant, catalog: Catalog, accepted_at: datetime, lines: LineLimit
) -> Sequence[Event]:
    """The events of a message. Raises MalformedMessage.

    Nobody waits for an answer that could name the problems, and what our own code says of them must not
    quote the payload, so of data only the places are named.
    """
    headers = {name.lower(): _as_header(value) for name, value in message.attributes.items()}
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    try:
        if media_type == "application/json" and "ce-id" not in headers and events_api.is_body(message.data):
            return _of_events_api(message.data, tenant, catalog, lines)
        context = cloudevents.Context(tenant.name, catalog, accepted_at)
        return cloudevents.read(media_type, headers, message.data, context)
    except InvalidRequest as error:
        told = "; ".join(map(_told, error.problems[:PROBLEMS_TOLD]))
        more = len(error.problems) - PROBLEMS_TOLD
        raise MalformedMessage(f"{told}; and {more} more" if more > 0 else told) from error
    except (Forbidden, TooLarge, UnsupportedMediaType) as error:
        raise MalformedMessage(str(error)) from error


def _of_events_api(body: bytes, tenant: Tenant, catalog: Catalog, lines: LineLimit) -> Sequence[Event]:
    taken = events_api.read(body, tenant, catalog)
    if (left_out := taken.left_out()) and (times := lines.count(tenant.name)):
        log.warning("events.skipped", tenant=tenant.name, times=times, **left_out)
    return taken.events


def _as_header(value: str) -> str:
    """Attributes are UTF-8 as they are; the reader takes headers, in which % and quotes mean something."""
    return value.replace("%", "%25").replace('"', "%22")


def _told(problem: Problem) -> str:
    in_data = "data." in problem.field
    return f"{problem.field}: does not fit the schema" if in_data else str(problem)
