"""Pages of the REST API, read as their bytes come. What is not needed of an item is not kept."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import ijson

from ..domain.errors import EventPlatformError
from ..domain.events import json_form
from .resources import API

MAX_ITEMS = 100
"""A PIM puts no more into a page, and we ask for no more."""
MAX_TEXT_LENGTH = 1024
MAX_HREF_LENGTH = 8192
MAX_DEPTH = 64
_ITEMS = ["_embedded", "items"]
_ITEM = [*_ITEMS, "item"]
_FIELDS = frozenset(("uuid", "identifier", "code", "created", "updated", "type", "is_main_identifier"))


class UnusablePage(EventPlatformError):
    """Raised when an answer is no page of the REST API."""


@dataclass(slots=True)
class Item:
    """One item of a page. A field that the page does not have is empty or None."""

    uuid: str = ""
    identifier: str = ""
    code: str = ""
    type: str = ""
    created: datetime | None = None
    updated: datetime | None = None
    is_main_identifier: bool = False
    digest: bytes = b""


@dataclass(slots=True)
class Page:
    """The items of a page, path and query of the next one below the API's, and the length of the list."""

    items: list[Item] = field(default_factory=list[Item])
    next: str | None = None
    items_count: int | None = None


class PageReader:
    """Reads one page. With `is_hashed` each item gets the hash of all that it is, but for links."""

    def __init__(self, *, base_path: str = "", attribute: str | None = None, is_hashed: bool = False) -> None:
        self._base_path = base_path
        self._identifier = [*_ITEM, "values", attribute, "item", "data"]
        self._is_hashed = is_hashed
        self._found: Any = ijson.sendable_list()
        # Not the parser with prefixes: these grow with the depth, so that deep ones take seconds.
        self._parser: Any = ijson.basic_parse_coro(self._found)
        self._page = Page()
        self._path: list[str] = []
        self._item: dict[str, Any] = {}
        self._digest = _Digest()
        self._has_items = False

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes. Raises UnusablePage."""
        try:
            self._parser.send(piece)
        except (ijson.JSONError, StopIteration, UnicodeDecodeError, ValueError) as error:
            raise UnusablePage("the answer is no JSON") from error
        for event, value in self._found:
            self._take(event, value)
        del self._found[:]

    def close(self) -> Page:
        """Returns the page. Raises UnusablePage."""
        try:
            self._parser.close()
        except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
            raise UnusablePage("the answer ends too early, or is no JSON") from error
        if not self._has_items:
            raise UnusablePage("the answer is no list of items of the REST API")
        return self._page

    def _take(self, event: str, value: Any) -> None:
        path = self._path
        if event == "map_key":
            path[-1] = value
        elif event in ("end_map", "end_array"):
            path.pop()
        if self._is_hashed and path[:3] == _ITEM and path[3:4] != ["_links"]:
            self._digest.add(event, value)
        if event in ("start_map", "start_array"):
            if len(path) >= MAX_DEPTH:
                raise UnusablePage(f"the answer has more than {MAX_DEPTH} levels")
            if event == "start_array" and path == _ITEMS:
                self._has_items = True
            path.append("item" if event == "start_array" else "")
        elif event == "end_map":
            if path == _ITEM:
                self._add_item()
        elif event not in ("map_key", "end_array"):
            self._take_scalar(path, event, value)

    def _take_scalar(self, path: list[str], event: str, value: Any) -> None:
        match len(path):
            case 4 if path[3] in _FIELDS and path[:3] == _ITEM:
                self._item[path[3]] = value
            case 7 if path == self._identifier and isinstance(value, str):
                self._item.setdefault("identifier_value", value)
            case 3 if path == ["_links", "next", "href"] and isinstance(value, str):
                self._page.next = path_below_api(value, self._base_path)
            case 1 if path == ["items_count"] and event == "number":
                self._page.items_count = int(value)
            case _:
                pass

    def _add_item(self) -> None:
        if len(self._page.items) >= MAX_ITEMS:
            raise UnusablePage(f"the page holds more than {MAX_ITEMS} items")
        found, self._item = self._item, {}
        self._page.items.append(
            Item(
                uuid=_text(found.get("uuid")),
                identifier=_text(found.get("identifier")) or _text(found.get("identifier_value")),
                code=_text(found.get("code")),
                type=_text(found.get("type")),
                created=_date(found.get("created")),
                updated=_date(found.get("updated")),
                is_main_identifier=found.get("is_main_identifier") is True,
                digest=self._digest.take() if self._is_hashed else b"",
            )
        )


def path_below_api(href: str, base_path: str = "") -> str:
    """Path and query of a link below the API's path; its host is not looked at.

    Raises UnusablePage for a link that leads elsewhere.
    """
    parts = urlsplit(href) if len(href) <= MAX_HREF_LENGTH and href.isascii() and href.isprintable() else None
    path = "" if parts is None else parts.path
    for prefix in (f"{base_path}{API}", API):
        if parts is not None and path.startswith(prefix) and ".." not in path and " " not in href:
            rest = path.removeprefix(prefix)
            return f"{rest}?{parts.query}" if parts.query else rest
    raise UnusablePage(f"the link to the next page does not lead below {API}")


_Parts: TypeAlias = list[bytes]


class _Digest:
    """The hash of a JSON value, whatever the order of its members and lists.

    A PIM writes the attributes of a family in any order.
    """

    def __init__(self) -> None:
        self._open: list[tuple[bool, _Parts]] = []
        self._keys: list[bytes] = []
        self._result = b""

    def add(self, event: str, value: Any) -> None:
        if event == "map_key":
            self._keys[-1] = json_form.stringify(value)
        elif event in ("start_map", "start_array"):
            self._open.append((event == "start_map", []))
            self._keys.append(b"")
        elif event in ("end_map", "end_array"):
            is_map, parts = self._open.pop()
            self._keys.pop()
            opening = b"{" if is_map else b"["
            self._put(
                hashlib.sha256(
                    opening + b"".join(b"%d:%b" % (len(each), each) for each in sorted(parts))
                ).digest()
            )
        else:
            text = f"{event[0]}{value}".encode("utf-8", "surrogatepass")
            self._put(text if len(text) <= 64 else hashlib.sha256(text).digest())

    def _put(self, digest: bytes) -> None:
        if not self._open:
            self._result = digest
            return
        is_map, parts = self._open[-1]
        parts.append(self._keys[-1] + b":" + digest if is_map else digest)

    def take(self) -> bytes:
        """Returns the hash of the value that has ended."""
        digest, self._result = self._result, b""
        return digest[:16]


def _text(value: object) -> str:
    """A text that can be delivered; empty for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_LENGTH:
        return ""
    return "" if json_form.has_lone_surrogates(value) else value


def _date(value: object) -> datetime | None:
    """A date with an offset; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
