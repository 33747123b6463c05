"""The pictures of the pages that follow from the code are as the code is now."""

import html
import re
import runpy
from pathlib import Path

from aep.sandbox.demo_view import NEXT

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = runpy.run_path(str(DOCS / "pictures.py"))
PAGE = (DOCS / "architecture.md").read_text()


def test_the_drawn_pictures_are_current() -> None:
    assert PICTURES["page"](PAGE) == PAGE, "make pictures"


def test_every_picture_has_its_place_on_the_page() -> None:
    for name in PICTURES["PICTURES"]:
        assert f"<!-- {name}: make pictures -->\n```mermaid" in PAGE


def test_the_picture_of_the_demo_is_small_and_fetches_nothing() -> None:
    picture = (DOCS / "demo.svg").read_text()
    assert len(picture) < 100_000
    assert "@font-face" not in picture
    places = re.findall(r"""(?:href|src)="(.*?)"|url\((.*?)\)""", picture)
    assert [place for place in map("".join, places) if not place.startswith("#")] == []
    assert "](docs/demo.svg)" in (DOCS.parent / "README.md").read_text()


def test_the_picture_of_the_demo_shows_what_the_demo_shows_now() -> None:
    text = html.unescape((DOCS / "demo.svg").read_text()).replace("\xa0", " ")
    parts = ["Starting a simulated PIM", *(page for page, _ in NEXT), "x-akeneo-signature-primary:"]
    rows = ["Nothing was lost, every signature matched", "deliveries due", "retried after a failure"]
    assert [each for each in [*parts, *rows] if each not in text] == [], "make demo-picture"
