"""The check of URLs against the guard, as problems of the request beside its other ones."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ..domain.errors import InvalidRequest, Problem
from ..domain.urls import host_and_port, normalise_endpoint_url
from ..ports import DestinationGuard

Parsed = TypeVar("Parsed")


async def parsed_and_guarded(
    parse: Callable[[], Parsed], body: Any, url_fields: tuple[str, ...], guard: DestinationGuard
) -> Parsed:
    """What `parse` makes of the body, once we may connect to the URLs that it names in these fields.

    Raises InvalidRequest with the problems of both, so that a caller learns of all of them at once.
    """
    problems: list[Problem] = []
    result: Parsed | None = None
    try:
        result = parse()
    except InvalidRequest as error:
        problems += error.problems
    known = {problem.field for problem in problems}
    for field in url_fields:
        if field not in known and (problem := await _problem(guard, field, _named(body, field))) is not None:
            problems.append(problem)
    if problems:
        raise InvalidRequest(*problems)
    return cast("Parsed", result)


def _named(body: Any, field: str) -> Any:
    """What stands in the body at a dotted path; None where nothing does."""
    for key in field.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


async def _problem(guard: DestinationGuard, field: str, url: Any) -> Problem | None:
    if not isinstance(url, str):
        return None
    try:
        host, _ = host_and_port(normalise_endpoint_url(url, allow_http=True))
        await guard.check(host)
    except ValueError as error:
        return Problem(field, str(error))
    return None
