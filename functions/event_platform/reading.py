"""Reads bodies that others sent: small ones where they arrive, large ones in a process of their own."""

from collections.abc import Callable
from typing import TypeVar

from .domain.errors import TooLarge
from .domain.events import json_form
from .domain.events.catalog import Catalog
from .domain.tenants import Tenant
from .ports import Reader

LARGE_BYTES = 256 * 1024
"""The size from which a body is not read, and its signature not made, where other requests wait for it."""
MAX_VALUES = 1_000_000
"""JSON values of a request to /ingest and of a relayed event. 5 MiB of attribute values have some 400,000."""
MAX_WEBHOOK_VALUES = 2_000_000
"""JSON values of one body of the Events API. 20 MiB full of attribute values have some 1,400,000."""

T = TypeVar("T")


def check_values(body: bytes | bytearray, at_most: int) -> None:
    """Raises TooLarge if a body holds more JSON values than that, without parsing it."""
    if json_form.has_more_values(body, at_most):
        raise TooLarge(f"the body holds more than {at_most} JSON values; send fewer events at a time")


class Reading:
    """Runs pure functions of a catalog and a body, each where it holds up nobody."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    def is_here(self, body: bytes | bytearray) -> bool:
        """True if a body is read in this process, which takes a few milliseconds at most."""
        return len(body) <= LARGE_BYTES and json_form.is_quick(body)

    async def run(
        self, owner: str, function: Callable[..., T], body: bytes | bytearray, *arguments: object
    ) -> T:
        """The result of a function of a module; `owner` is whose body it is.

        A tenant among the arguments goes to another process without its secrets. Raises what the function
        raises, and Overloaded.
        """
        if self.is_here(body):
            return function(self._catalog, bytes(body), *arguments)
        return await self._reader.run(owner, function, body, *map(_redacted, arguments))


def _redacted(argument: object) -> object:
    return argument.redacted() if isinstance(argument, Tenant) else argument
