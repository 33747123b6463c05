"""Shows the pages of the documentation, which the package brings along, so that no other host is asked."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from markdown_it.token import Token

PATH = "/console/help"
PACKED = Path(__file__).parents[1] / "docs"
CHECKOUT = Path(__file__).parents[3] / "docs"
"""The pages in a package (local/build_hook.py puts them there), and in a checkout."""
PAGES_KEPT = 8
"""The pages that are kept as HTML: the longest has some 150 KB."""
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


class Shows(Protocol):
    """Turns a template into an answer (`app.Shell`)."""

    def page(self, request: Request, template: str, status: int = 200, **context: object) -> Response: ...


def routes(site: Shows) -> Sequence[Route]:
    async def show_all(request: Request) -> Response:
        return site.page(request, "help.html", titles=titles(), title="Help", text=None)

    async def show(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in titles():
            raise HTTPException(404)
        text = await asyncio.to_thread(rendered, name)
        return site.page(request, "help.html", titles=titles(), title=titles()[name], text=text)

    return [Route(PATH, show_all, methods=["GET"]), Route(f"{PATH}/{{name}}", show, methods=["GET"])]


@lru_cache(maxsize=1)
def titles() -> Mapping[str, str]:
    """Returns the titles of the pages by their names."""
    folder = PACKED if PACKED.is_dir() else CHECKOUT
    found = {path.stem: _TITLE.search(path.read_text("utf-8")) for path in sorted(folder.glob("*.md"))}
    return {name: match[1] for name, match in found.items() if match is not None}


@lru_cache(maxsize=PAGES_KEPT)
def rendered(name: str) -> Markup:
    """Returns a page as HTML. Links to what is not among the pages, and pictures, are left as their text."""
    from markdown_it import MarkdownIt

    folder = PACKED if PACKED.is_dir() else CHECKOUT
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse((folder / f"{name}.md").read_text("utf-8"))
    _name_headings(tokens)
    for token in tokens:
        if token.children:
            token.children = list(_without_dead_links(token.children))
    html: str = reader.renderer.render(tokens, reader.options, {})
    tables = html.replace("<table>", _TABLE).replace("</table>", "</table></div>")
    return Markup(tables.replace("<pre>", '<pre tabindex="0">'))  # noqa: S704 - the package's own pages


_TABLE = '<div class="table" tabindex="0" role="region" aria-label="Table"><table>'


def _name_headings(tokens: Sequence["Token"]) -> None:
    """Gives each heading the id that links of pages name it by, as code hosts do."""
    seen: dict[str, int] = {}
    for heading, inline in pairwise(tokens):
        if heading.type != "heading_open":
            continue
        words = "".join(
            each.content for each in inline.children or () if each.type in ("text", "code_inline")
        )
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        times = seen[name] = seen.get(name, -1) + 1
        heading.attrSet("id", f"{name}-{times}" if times else name)


def _without_dead_links(tokens: Sequence["Token"]) -> Iterator["Token"]:
    is_dead = False
    for token in tokens:
        if token.type == "image":
            token.type = "text"
        if token.type == "link_open":
            href = link(str(token.attrGet("href") or ""))
            is_dead = href is None
            if href is not None:
                token.attrSet("href", href)
                token.attrSet("rel", "noreferrer")
        if not (is_dead and token.type in ("link_open", "link_close")):
            yield token


def link(href: str) -> str | None:
    """Returns where a link of a page leads here; None for a file that is not among the pages."""
    path, hash_sign, anchor = href.partition("#")
    if not path or path.startswith(("https://", "http://")):
        return href
    name = path.removesuffix(".md")
    return f"{PATH}/{name}{hash_sign}{anchor}" if name in titles() else None


def url_of(page: str) -> str:
    """Returns the URL of a page or a part of it, such as `operate.md#alerts`, for a template."""
    found = link(page)
    if found is None:
        raise ValueError(f"docs/{page} is not there")
    return found
