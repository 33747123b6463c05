"""The check of a URL's host against the guard, as a problem of the request's field."""

from ..domain.errors import InvalidRequest, Problem
from ..domain.urls import host_and_port
from ..ports import DestinationGuard


async def check_url(guard: DestinationGuard, field: str, url: str | None) -> None:
    """Raises InvalidRequest naming `field` when we may not connect to the URL's host; None passes."""
    if url is None:
        return
    host, _ = host_and_port(url)
    try:
        await guard.check(host)
    except ValueError as error:
        raise InvalidRequest(Problem(field, str(error))) from error
