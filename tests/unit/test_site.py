"""The pages as a site: what is laid out for its builder, and what its check finds."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

import build_site
import check_site

SETTINGS: dict[str, Any] = tomllib.loads((build_site.HERE / "site.toml").read_text())["project"]
STYLE = "body { background: url('https://cdn.example.com/a.png') }"


def in_navigation(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    below = entries.values() if isinstance(entries, dict) else entries
    return [name for each in below for name in in_navigation(each)]


def test_every_page_is_in_the_navigation_once() -> None:
    named = in_navigation(list(build_site.navigation(SETTINGS["nav"])))
    pages = [str(path) for path in build_site.sources() if path.suffix == ".md"]
    assert sorted(each for each in named if each.endswith(".md")) == sorted(pages)


def test_scripts_are_known_by_their_hash() -> None:
    lock = json.loads((build_site.HERE / "package-lock.json").read_text())["packages"]
    wanted = json.loads((build_site.HERE / "package.json").read_text())["dependencies"]
    assert lock.pop("")["dependencies"] == wanted
    assert len(lock) >= len(wanted)
    assert [name for name, package in lock.items() if not package["integrity"].startswith("sha512-")] == []


def test_lists_are_laid_out_for_python_markdown() -> None:
    page = (
        "text\n- one\n  goes on\n  - below\n- two\n\n1. do\n\n   ```sh\n   make\n     it\n   ```\n2. done\n"
    )
    expected = (
        "text\n\n- one\n    goes on\n\n    - below\n- two\n\n"
        "1. do\n\n    ```sh\n    make\n      it\n    ```\n\n2. done\n"
    )
    assert build_site.python_markdown(page) == expected


def test_what_is_no_list_is_laid_out_as_it_is() -> None:
    page = "# A\n\ntext - with\n\n```\n- no list\n```\n\n| a |\n|---|\n| 1 |\n"
    assert build_site.python_markdown(page) == page


def test_the_glossary_gives_tips() -> None:
    tips = build_site.tips().splitlines()
    assert any(tip.startswith("*[deliveries]: one event for one subscription") for tip in tips)
    assert any(tip.startswith("*[Dead letter]: a message of ours") for tip in tips)
    assert not any(tip.startswith(("*[word]", "*[event]", "*[bury]")) for tip in tips)


def test_a_tip_is_shown_once_a_page_and_not_in_headings() -> None:
    tip = '<abbr title="a queue">lane</abbr>'
    assert build_site.tidy(f"<h2>A {tip}</h2> a {tip}, a {tip}") == f"<h2>A lane</h2> a {tip}, a lane"


def test_the_api_is_described_whole() -> None:
    paths = build_site.api_document()["paths"]
    assert {"/api/v1/subscribers/{sid}", "/ingest", "/openapi.json"} <= set(paths)


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<script src="https://cdn.example.com/a.js"></script>', "loads https://cdn.example.com/a.js from"),
        ('<link rel="stylesheet" href="//fonts.example.com/css">', "loads //fonts.example.com/css from"),
        ('<img srcset="a.png 1x, https://cdn.example.com/b.png 2x">', "loads https://cdn.example.com/b.png"),
        (f"<style>{STYLE}</style>", "loads https://cdn.example.com/a.png from"),
        ('<p style="background: url(//cdn.example.com/a.png)">', "loads //cdn.example.com/a.png from"),
        ('<a href="gone/">', "links to gone/, which is not there"),
        ('<a href="#gone">', "links to #gone, which is not there"),
        ('<a href="other/#gone">', "links to other/#gone, which is not there"),
        ('<a href="../../outside">', "links to ../../outside, which is not there"),
    ],
)
def test_a_page_with_a_fault_is_named(html: str, problem: str, tmp_path: Path) -> None:
    write(tmp_path, html)
    found = list(check_site.problems(tmp_path, tmp_path, []))
    assert any(each.startswith(f"index.html {problem}") for each in found), found


def test_a_style_sheet_with_a_fault_is_named(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "a.css").write_text(STYLE)
    assert list(check_site.problems(tmp_path, tmp_path, [])) == [
        "a.css loads https://cdn.example.com/a.png from another host"
    ]


def test_a_page_in_order_has_no_problem(tmp_path: Path) -> None:
    write(
        tmp_path,
        '<a href="https://example.com">text</a> <a href="other/#here">b</a> <a href="#b" id="b">c</a>'
        '<script src="a.css"></script> <img src="data:image/png;base64,AA">',
    )
    (tmp_path / "a.css").write_text("p { background: url(data:,) }")
    assert list(check_site.problems(tmp_path, tmp_path, [])) == []


def test_what_a_page_lost_is_named(tmp_path: Path) -> None:
    write(tmp_path, "<article><h1>A</h1><ul><li>one</li></ul></article>")
    (tmp_path / "README.md").write_text("# A\n- one\n- two\n")
    assert list(check_site.problems(tmp_path, tmp_path, [Path("README.md")])) == [
        "README.md has 2 li, the built page 1"
    ]


def write(site: Path, html: str) -> None:
    (site / "index.html").write_text(html)
    (site / "other").mkdir()
    (site / "other" / "index.html").write_text('<p id="here">')
