"""The pages of a list: by number or by cursor, with links to the next as the PIM makes them."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from .catalogue import Entity
from .errors import PimError
from .kinds import Kind, Paging

DEFAULT_LIMIT = 10
MOST_ITEMS = 100
MOST_PAGED = 10_000
"""The most products and product models that can be read by page; beyond it takes cursors."""

Link = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pages:
    """The part of a list that a request asks for."""

    parameters: Mapping[str, str]
    limit: int
    page: int
    after: str | None
    by_cursor: bool
    with_count: bool

    def read(self, after: Callable[[str | None], Iterable[Entity]]) -> tuple[list[Entity], int | None]:
        """Returns the entities, and how many there are in all pages where that was asked for.

        `after` gives the entities of the list that follow a key, in their order.
        """
        if self.by_cursor:
            return list(islice(after(self.after), self.limit)), None
        start = (self.page - 1) * self.limit
        if not self.with_count:
            return list(islice(after(None), start, start + self.limit)), None
        entities = list(after(None))
        return entities[start : start + self.limit], len(entities)

    def answer(self, url: str, entities: Sequence[Entity], items: list[Any], count: int | None) -> Any:
        """Returns the page with its links, which go to `url`."""
        links: dict[str, Link] = {"self": self._link(url)}
        is_full = len(items) == self.limit  # a list that ends with a full page has an empty one after it
        if self.by_cursor:
            links["first"] = self._link(url, search_after=None)
            if is_full:
                links["next"] = self._link(url, search_after=_cursor(entities[-1].key))
            return {"_links": links, "_embedded": {"items": items}}
        links["first"] = self._link(url, page="1")
        if self.page > 1:
            links["previous"] = self._link(url, page=str(self.page - 1))
        if is_full:
            links["next"] = self._link(url, page=str(self.page + 1))
        counted = {} if count is None else {"items_count": count}
        return {"_links": links, "current_page": self.page, **counted, "_embedded": {"items": items}}

    def _link(self, url: str, **changed: str | None) -> Link:
        parameters = {**self.parameters, **changed}
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        return {"href": f"{url}?{query}" if query else url}


def pages_of(kind: Kind, query: Mapping[str, str]) -> Pages:
    """Reads the parameters of a list. Raises PimError."""
    if kind.paging is Paging.CURSOR:
        return _by_cursor(dict(query), MOST_ITEMS)
    kind_of_pages = query.get("pagination_type", "page")
    if kind_of_pages not in ("page", "search_after"):
        raise PimError(422, "Pagination type does not exist.")
    limit = _number(query, "limit", DEFAULT_LIMIT)
    if limit > MOST_ITEMS:
        raise PimError(422, f"You cannot request more than {MOST_ITEMS} items.")
    parameters = {**query, "limit": str(limit)}
    if kind.paging is Paging.EITHER and kind_of_pages == "search_after":
        return _by_cursor(parameters, limit)
    page = _number(query, "page", 1)
    if kind.paging is Paging.EITHER and page * limit > MOST_PAGED:
        raise PimError(
            422,
            'You have reached the maximum number of pages you can retrieve with the "page" pagination '
            "type. Please use the search after pagination type instead",
        )
    parameters = {"page": str(page), **parameters}
    return Pages(parameters, limit, page, None, by_cursor=False, with_count=query.get("with_count") == "true")


def _by_cursor(parameters: Mapping[str, str], limit: int) -> Pages:
    after = parameters.get("search_after")
    key = None if not after else _key(after)
    return Pages(parameters, limit, 1, key, by_cursor=True, with_count=False)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise PimError(422, f'"{text}" is not a valid {name} number.')
    return int(text)


def _cursor(key: str) -> str:
    """Returns the cursor after a key, which is not to be made by hand."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise PimError(422, f'"{cursor}" is not a valid search_after parameter.') from None
