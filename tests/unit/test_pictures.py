"""The pictures of `docs/architecture.md` that follow from the code are as the code is now."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = runpy.run_path(str(DOCS / "pictures.py"))
PAGE = (DOCS / "architecture.md").read_text()


def test_the_drawn_pictures_are_current() -> None:
    assert PICTURES["page"](PAGE) == PAGE, "make pictures"


def test_every_picture_has_its_place_on_the_page() -> None:
    for name in PICTURES["PICTURES"]:
        assert f"<!-- {name}: make pictures -->\n```mermaid" in PAGE
