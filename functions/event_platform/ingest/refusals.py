"""Log lines about calls that ingest refuses. Without them the sender alone may see the answer."""

from collections.abc import Mapping

import structlog
from starlette.requests import ClientDisconnect, Request

from ..domain import errors
from ..domain.line_limit import LineLimit
from ..domain.tenants import Way
from ..http import FIELD_CHARACTERS, STATUS_OF
from ..ports import IngestObserver

log = structlog.get_logger()

Refusal = errors.EventPlatformError | ClientDisconnect
"""The errors that end a call without its events having been taken."""

REASONS: Mapping[type[errors.EventPlatformError], str] = {
    errors.InvalidRequest: "malformed",
    errors.Unauthenticated: "credentials",
    errors.Forbidden: "another_pim",
    errors.TooLarge: "too_large",
    errors.UnsupportedMediaType: "media_type",
    errors.TooManyRequests: "too_many_wrong",
    errors.Overloaded: "overloaded",
}
UNAVAILABLE, INCOMPLETE = "unavailable", "incomplete"
"""The reasons of what has none of its own; they are few, so that lines and metrics are."""
INCOMPLETE_STATUS = 400
FIELDS_LISTED = 10
_SIZE_DIGITS = 15


class Refusals:
    """Logs refused calls, at most once a minute for each tenant, way in, status and reason."""

    def __init__(self, lines: LineLimit, observer: IngestObserver) -> None:
        self._lines = lines
        self._observer = observer

    def count(self, way: Way, tenant: str, request: Request, error: Refusal) -> None:
        """Counts a call. `tenant` is empty when nothing says whose it is. Nothing of a body is logged."""
        status, reason = _status_and_reason(error)
        self._observer.refused(tenant, way, status, reason)
        times = self._lines.count((tenant, way, status, reason))
        if times == 0:
            return
        more: dict[str, object] = {"tenant": tenant} if tenant else {}
        if (size := request.headers.get("content-length", "")[:_SIZE_DIGITS]).isdecimal():
            more["bytes"] = int(size)
        if isinstance(error, errors.InvalidRequest):
            more["fields"] = [each.field[:FIELD_CHARACTERS] for each in error.problems[:FIELDS_LISTED]]
        log.warning("ingest.refused", way=way, status=status, reason=reason, times=times, **more)


def _status_and_reason(error: Refusal) -> tuple[int, str]:
    if isinstance(error, ClientDisconnect):
        return INCOMPLETE_STATUS, INCOMPLETE
    reason = error.reason if isinstance(error, errors.Unauthenticated) else ""
    return STATUS_OF[type(error)], reason or REASONS.get(type(error), UNAVAILABLE)
