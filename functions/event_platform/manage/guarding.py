"""The check of hosts against the guard, as problems of the request beside its other ones."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from ..domain.errors import InvalidRequest, Problem
from ..domain.urls import host_and_port, host_and_port_of_broker, normalise_endpoint_url
from ..ports import DestinationGuard

Parsed = TypeVar("Parsed")
HostOf: TypeAlias = Callable[[str], str]
"""The host that a field's text names. Raises ValueError when it names none."""


def host_of_endpoint(url: str) -> str:
    """Returns the host of a URL."""
    return host_and_port(normalise_endpoint_url(url, allow_http=True))[0]


def host_of_broker(broker: str) -> str:
    """Returns the host of host:port."""
    return host_and_port_of_broker(broker)[0]


async def parsed_and_guarded(
    parse: Callable[[], Parsed], body: Any, hosts: Mapping[str, HostOf], guard: DestinationGuard
) -> Parsed:
    """Returns what `parse` makes of the body, if we may connect to the hosts that these fields name.

    Raises InvalidRequest with the problems of both, so that a caller learns of all of them at once.
    """
    problems: list[Problem] = []
    result: Parsed | None = None
    try:
        result = parse()
    except InvalidRequest as error:
        problems += error.problems
    known = {problem.field for problem in problems}
    for field, host_of in hosts.items():
        text = None if field in known else _named(body, field)
        if isinstance(text, str) and (problem := await _problem(guard, field, host_of, text)) is not None:
            problems.append(problem)
    if problems:
        raise InvalidRequest(*problems)
    return cast("Parsed", result)


def _named(body: Any, field: str) -> Any:
    """Returns the value at a dotted path of the body; None if there is none."""
    for key in field.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


async def _problem(guard: DestinationGuard, field: str, host_of: HostOf, text: str) -> Problem | None:
    try:
        await guard.check(host_of(text))
    except ValueError as error:
        return Problem(field, str(error))
    return None
