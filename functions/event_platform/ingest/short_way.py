"""The short way of the usual requests to /ingest, on one machine (docs/decisions/0083).

It does what `take_in` of `routes` does, without waiting. What it cannot do, and all that is refused, goes the
ordinary way, which says and counts why.
"""

from collections.abc import Sequence

import orjson

from ..domain.errors import EventPlatformError
from ..domain.record.answers import AcceptedAnswer
from ..http import media_type_of
from ..ports import Call
from .credentials import Credentials
from .ingest import Taking
from .services import AtOnce

Headers = Sequence[tuple[bytes, bytes]]


class IngestShortWay:
    """The short way of /ingest."""

    def __init__(self, credentials: Credentials, taking: Taking, at_once: AtOnce) -> None:
        self._credentials = credentials
        self._taking = taking
        self._at_once = at_once

    def begin(self, call: Call) -> bool:
        if (head := _read_head(call.headers)) is None:
            return False
        authorization, media_type, attributes = head
        body = call.body
        try:
            tenant = self._credentials.holder_at_once(authorization, self._at_once.registry)
        except EventPlatformError:
            return False
        if tenant is None or not call.has_room(tenant.name):
            return False
        share = self._credentials.share_of(tenant)

        def accepted(events: int | None) -> None:
            share.release()
            call.end(None if events is None else accepted_answer(events))

        is_begun = False
        try:
            is_begun = share.take(len(body)) and self._taking.begin_cloudevents(
                tenant, body, media_type, attributes, self._at_once.intake, accepted
            )
        except EventPlatformError:
            return False
        finally:
            if not is_begun:
                share.release()
        return is_begun


def accepted_answer(events: int) -> bytes:
    """The answer to a request that was taken in."""
    answer: AcceptedAnswer = {"accepted": events}
    return orjson.dumps(answer)


def _read_head(headers: Headers) -> tuple[str, str, dict[str, str]] | None:
    """Returns Authorization, the media type and the attributes of binary mode; None for an unusual head."""
    authorization: bytes | None = None
    content_type: bytes | None = None
    attributes: dict[str, str] = {}
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                return None
            authorization = value
        elif name == b"content-type":
            if content_type is not None:
                return None
            content_type = value
        elif name == b"content-encoding":
            return None
        elif name[:3] == b"ce-":
            attributes[name.decode()] = value.decode("latin-1")
    if authorization is None or content_type is None:
        return None
    return authorization.decode("latin-1"), media_type_of(content_type.decode("latin-1")), attributes
