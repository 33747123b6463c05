"""Events that a PIM publishes to its own topic, read and validated (contract/ingest.md).

CloudEvents in three modes, https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md and
batch mode besides, and bodies of the Events API. Whoever may publish there is the PIM, so nothing is signed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from ..domain.errors import (
    Forbidden,
    InvalidRequest,
    Overloaded,
    Problem,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from ..domain.events.catalog import Catalog
from ..domain.events.event import Event
from ..domain.ingest_formats import cloudevents, events_api
from ..domain.ingest_formats.events_api import Taken
from ..domain.line_limit import LineLimit
from ..domain.messages.message import MalformedMessage, Message
from ..domain.tenants import Tenant
from ..reading import MAX_WEBHOOK_VALUES, Reading, check_values

log = structlog.get_logger()

PROBLEMS_LISTED = 10


async def published_events(
    message: Message, tenant: Tenant, reading: Reading, accepted_at: datetime, lines: LineLimit
) -> Sequence[Event]:
    """The events of a message. Raises MalformedMessage, and Unavailable when nothing can be read now.

    Nobody waits for an answer that could name the problems, and what our own code says of them must not
    quote the payload, so of data only the places are named.
    """
    headers = {name.lower(): _as_header(value) for name, value in message.attributes.items()}
    try:
        taken = await reading.run(tenant.key, read_published, message.data, tenant, accepted_at, headers)
    except InvalidRequest as error:
        listed = "; ".join(map(_line_of, error.problems[:PROBLEMS_LISTED]))
        more = len(error.problems) - PROBLEMS_LISTED
        raise MalformedMessage(f"{listed}; and {more} more" if more > 0 else listed) from error
    except (Forbidden, TooLarge, UnsupportedMediaType) as error:
        raise MalformedMessage(str(error)) from error
    except Overloaded as error:
        raise Unavailable(str(error)) from error
    if (left_out := taken.left_out()) and (times := lines.count(tenant.name)):
        log.warning("events.skipped", tenant=tenant.name, times=times, **left_out)
    return taken.events


def read_published(
    catalog: Catalog, data: bytes, tenant: Tenant, accepted_at: datetime, headers: Mapping[str, str]
) -> Taken:
    """The events in a message's data; its attributes are `headers`.

    Raises what `events_api.read` and `cloudevents.read` raise, and TooLarge.
    """
    check_values(data, MAX_WEBHOOK_VALUES)
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type == "application/json" and "ce-id" not in headers:
        taken = events_api.read_if_body(data, tenant, catalog)
        if taken is not None:
            return taken
    context = cloudevents.Context(tenant.name, catalog, accepted_at)
    return Taken(cloudevents.read(media_type, headers, data, context))


def _as_header(value: str) -> str:
    """Attributes are UTF-8 as they are; the reader takes headers, in which % and quotes mean something."""
    return value.replace("%", "%25").replace('"', "%22")


def _line_of(problem: Problem) -> str:
    in_data = "data." in problem.field
    return f"{problem.field}: does not fit the schema" if in_data else str(problem)
