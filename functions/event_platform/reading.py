"""Reads bodies that others sent: small ones where they arrive, large ones in a process of their own."""

from collections.abc import Callable
from typing import TypeVar

from .domain import json_form
from .domain.catalog import Catalog
from .ports import Reader

LARGE_BYTES = 256 * 1024
"""From here on a body is not read, and its signature not made, where other requests wait for it."""

T = TypeVar("T")


class Reading:
    """Runs pure functions of a catalog and a body, each where it holds up nobody."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def run(
        self, owner: str, function: Callable[..., T], body: bytes | bytearray, *arguments: object
    ) -> T:
        """The result of a function of a module; `owner` is whose body it is.

        Raises what the function raises, and Overloaded.
        """
        if len(body) <= LARGE_BYTES:
            text = bytes(body)
            if json_form.is_quick(text):
                return function(self._catalog, text, *arguments)
        return await self._reader.run(owner, function, body, *arguments)
