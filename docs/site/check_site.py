"""Checks a built site.

No page loads anything from another host, each link leads somewhere, and nothing of a page was lost.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
COUNTED = ("h1", "h2", "h3", "h4", "img", "li", "ol", "table", "tr", "ul")
COMMONMARK = MarkdownIt("commonmark").enable("table")


@dataclass
class Page(HTMLParser):
    """The files that a page of HTML loads, its links and their targets; elements of its text are counted."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    elements: Counter[str] = field(default_factory=Counter)
    counting: bool = True

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in {"a", "area"} or (tag == "link" and given.get("rel") in {"prev", "next", "canonical"}):
            self.links += [given["href"]] if "href" in given else []
        else:
            self.loads += [
                given[name] for name in ("src", "href", "data", "poster", "action") if name in given
            ]
            self.loads += [each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()]
        self.loads += urls(given.get("style", ""))
        if tag == "article":
            self.counting, self.elements = True, Counter()
        if self.counting:
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.counting = False

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.loads += urls(data)


def urls(style: str) -> list[str]:
    """Returns what a style sheet loads."""
    return re.findall(r"(?:url\(|@import )\s*[\"']?([^\"')\s]+)", style)


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def problems(site: Path, root: Path, sources: Iterable[Path]) -> Iterator[str]:
    """Yields what is wrong with a site that was built from the pages `sources` below `root`."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name} loads {each} from another host" for each in page.loads if ELSEWHERE.match(each))
        local = [each for each in [*page.loads, *page.links] if not urlsplit(each).scheme]
        yield from (
            f"{name} links to {each}, which is not there"
            for each in local
            if not _leads(path, each, site, pages)
        )
    for path in site.rglob("*.css"):
        for each in urls(path.read_text()):
            if ELSEWHERE.match(each):
                yield f"{path.relative_to(site)} loads {each} from another host"
    for source in sources:
        yield from _losses(source, (root / source).read_text(), site, pages)


def _leads(path: Path, link: str, site: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    where = unquote(parts.path)
    base = site if where.startswith("/") or path.name == "404.html" else path.parent
    target = (base / where.lstrip("/")).resolve() if where else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors


def _losses(name: Path, text: str, site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Compares a page as code hosts show it with the built one."""
    folder = name.parent if name.name == "README.md" else name.with_suffix("")
    built = pages.get(site / folder / "index.html")
    if built is None:
        yield f"{name} was not built"
        return
    shown = Page()
    shown.feed(COMMONMARK.render(text))
    for element in COUNTED:
        if shown.elements[element] != built.elements[element]:
            yield f"{name} has {shown.elements[element]} {element}, the built page {built.elements[element]}"
