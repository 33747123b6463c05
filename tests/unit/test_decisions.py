"""The pages of decisions: each says since when it holds, and is listed."""

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("0*.md"))
STATUS = re.compile(
    r"\*\*Status\.\*\* Accepted, (\d{4}-\d\d-\d\d)\.(?: Superseded by \[\d{4}\]\((\S+\.md)\))?"
)
SHAPE = (
    '"**Status.** Accepted, YYYY-MM-DD." must follow the title, then perhaps "Superseded by [NNNN](PAGE) …"'
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem[:4])
def test_a_decision_has_its_number_status_and_date(page: Path) -> None:
    title, status, *_ = page.read_text().split("\n\n")
    assert re.fullmatch(rf"# {page.name[:4]} \S.*", title)
    found = STATUS.match(status)
    assert found, f"{page.name}: {SHAPE}"
    assert date.fromisoformat(found[1]) >= date(2026, 11, 23)
    assert found[2] is None or (FOLDER / found[2]).is_file()


def test_every_decision_is_listed_by_its_title() -> None:
    listed = re.findall(r"^- \[(.+)\]\((\S+)\)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert listed == [(page.read_text().partition("\n")[0].removeprefix("# "), page.name) for page in PAGES]


def test_no_two_decisions_have_the_same_number() -> None:
    numbers = [page.name[:4] for page in PAGES]
    assert sorted(set(numbers)) == numbers
