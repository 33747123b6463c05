"""Citations of `docs/contract/` lead to a section, and links between pages to a page and a heading."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "contract").glob("*.md"))
CITING = ("functions", "local", "bench", "tests", "infra", "docs")

NUMBER = r"\d+b?"
CITATION = re.compile(rf"contract/([\w-]+\.md)((?:(?:,? and |, | to | ){NUMBER}\b)*)")
"""`contract/wire.md 3, 4 and 8`, `contract/ingest.md 2 to 4`; without a number, the whole page."""
WITHOUT_A_PATH = re.compile(
    rf"wire[ -]contract,? (?:section )?{NUMBER}|(?<![\w/])(?:wire|ingest)\.md {NUMBER}", re.IGNORECASE
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def sections(page: Path) -> set[str]:
    return set(re.findall(rf"^## ({NUMBER})\. ", page.read_text(), re.MULTILINE))


def texts() -> Iterator[tuple[str, str]]:
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix in {".py", ".md"} and path != Path(__file__) and "/." not in name:
                yield name, path.read_text()


def wrong_citations(text: str) -> Iterator[str]:
    """Yields each citation of `text` that leads nowhere, and each that is in another form."""
    known = {page.name: sections(page) for page in PAGES}
    for citation in CITATION.finditer(text):
        numbers = re.findall(NUMBER, citation[2])
        if citation[1] not in known or not known[citation[1]].issuperset(numbers):
            yield citation[0]
    yield from (other[0] for other in WITHOUT_A_PATH.finditer(text))


def test_every_citation_leads_to_a_section() -> None:
    wrong = {name: found for name, text in texts() if (found := [*wrong_citations(text)])}

    assert wrong == {}


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text()):
        linked = (page.parent / target) if target else page
        assert linked.exists(), target
        assert not heading or heading in headings(linked), f"{target}#{heading}"


def test_every_section_of_the_wire_contract_is_there() -> None:
    wire, ingest = (sections(ROOT / "docs" / "contract" / name) for name in ("wire.md", "ingest.md"))

    assert wire == {*(str(number) for number in range(1, 17)), "10b"}
    assert ingest == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("(contract/wire.md 4)", []),
        ("contract/wire.md 10b, 11 and 13 say", []),
        ("contract/wire.md 17", ["contract/wire.md 17"]),
        ("contract/wire.md 1 to 18 and 8", ["contract/wire.md 1 to 18 and 8"]),
        ("docs/contract/other.md", ["contract/other.md"]),
        ("Wire contract 9.", ["Wire contract 9"]),
        ("(ingest.md 3)", ["ingest.md 3"]),
    ],
)
def test_a_citation_that_leads_nowhere_is_found(text: str, wrong: list[str]) -> None:
    assert [*wrong_citations(text)] == wrong
