"""Turns contexts into HTML: the templates, the files that a page loads, and how values are shown."""

import gzip
import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from event_platform.domain.timestamps import to_rfc3339
from event_platform.domain.words import counted

from . import documentation

STATIC = "/console/static"
ROOM = __name__.rpartition(".")[0]
"""The package that has the folders `static` and `templates`."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load. `packed` is its gzip, `digest` names its content in the URL."""

    name: str
    media_type: str
    body: bytes
    packed: bytes
    digest: str

    def url_below(self, prefix: str) -> str:
        return f"{prefix}/{self.digest}/{self.name}"


def static_files() -> Mapping[str, StaticFile]:
    """Reads the files of the folder `static` by their names, licences of others included."""
    folder = files(ROOM).joinpath("static")
    found: dict[str, StaticFile] = {}
    for place in (folder, folder.joinpath("vendored")):
        for path in place.iterdir():
            if not path.is_file():
                continue
            body = path.read_bytes()
            media_type = mimetypes.types_map.get(f".{path.name.rpartition('.')[2]}", "text/plain")
            packed, digest = gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:16]
            found[path.name] = StaticFile(path.name, media_type, body, packed, digest)
    return found


class Templates:
    """The templates of the folder `templates`; everything that they show is escaped."""

    def __init__(self, static: Mapping[str, StaticFile], prefix: str = STATIC) -> None:
        self._environment = Environment(
            loader=PackageLoader(ROOM),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["static"] = {name: file.url_below(prefix) for name, file in static.items()}
        self._environment.filters |= {
            "ago": ago,
            "help": documentation.url_of,
            "json": to_json,
            "milliseconds": milliseconds,
            "number": number,
            "percent": percent,
            "per_second": per_second,
            "printable": printable,
            "seconds": seconds,
            "sentence": sentence,
            "size": size,
            "times": counted,
        }

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Returns a page, or a part of one."""
        return self._environment.get_template(name).render(context)


def ago(at: datetime | float | str | None, now: datetime) -> Markup:
    """Returns a time as how long ago it was; the reader's browser shows the exact one in its zone."""
    if at is None:
        return Markup("–")
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(
        to_rfc3339(moment), _words_of((now - moment).total_seconds())
    )


def _words_of(passed: float) -> str:
    words = seconds(abs(passed)) if abs(passed) >= 1 else "now"
    if words == "now":
        return words
    return f"{words} ago" if passed > 0 else f"in {words}"


def seconds(value: float | None) -> str:
    """Returns a span of time in its largest unit, with two digits at most."""
    if value is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if value >= size:
            return f"{value / size:.0f} {unit}" if value >= 10 * size else f"{value / size:.1f} {unit}"
    return milliseconds(value * 1000)


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def number(value: float) -> str:
    """Returns a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def per_second(value: float) -> str:
    return f"{value:.1f}" if value < 100 else number(value)


def percent(share: float | None) -> str:
    """Returns a share in percent. It rounds down, so that 100 % is shown only when it is."""
    return "–" if share is None else f"{int(share * 1000) / 10:g} %"


def sentence(text: str) -> str:
    """Returns an error as a sentence, unless it begins with the name of a field."""
    first, space, _ = text.partition(" ")
    begins_with_field = bool(space) and ("." in first or "_" in first)
    begun = text if begins_with_field else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "?", "!")) else f"{begun}."


def size(value: int) -> str:
    """Returns a number of bytes in its largest unit."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**exponent:
            return f"{value / 1024**exponent:.1f} {unit}"
    return f"{value} bytes"


def printable(text: str) -> str:
    """Returns the text with a question mark for each half of a surrogate pair, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def to_json(value: object) -> str:
    """Returns JSON for an attribute, where it is escaped as everything else."""
    return json.dumps(value, separators=(",", ":"))
