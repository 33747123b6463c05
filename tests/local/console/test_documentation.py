"""The pages of the documentation in the console, and the links to them."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from aep.console import documentation, views
from aep.console.documentation import PATH, link, rendered, titles, url_of
from aep.runtime.meters import Meters
from event_platform.domain.subscriptions import Status
from support.console import ConsoleHere, Reader

TEMPLATES = Path(str(files("aep.console"))) / "templates"
WRITTEN = re.compile(r"'([a-z-]+\.md(?:#[a-z-]+)?)'\|help")


def everything_wrong() -> list[views.Remark]:
    meters = Meters()
    meters.dead_letters = meters.queued = 1
    silent = [{"pim": f"pim-{number}", "silent_for": 7200.0, "usual": 1.0} for number in range(11)]
    refused = [{"pim": f"pim-{number}", "way": "relay", "status": 401, "reason": "x"} for number in range(11)]
    return views.remarks(
        problem="the disk is full",
        by_status={Status.SUSPENDED: 1},
        meters=meters,
        oldest=1000.0,
        silent=silent,
        refused=refused,
        lead=60.0,
    )


def test_each_link_to_the_documentation_leads_to_a_part_of_it() -> None:
    named = {each.docs for each in everything_wrong()}
    for template in TEMPLATES.glob("*.html"):
        named |= set(WRITTEN.findall(template.read_text()))

    assert len(named) >= 7
    for each in named:
        name, _, anchor = each.partition("#")
        page = rendered(name.removesuffix(".md"))
        assert f'id="{anchor}"' in page if anchor else page, each


def test_links_between_pages_lead_to_their_parts() -> None:
    for name in titles():
        for other, anchor in re.findall(rf'href="{PATH}/([^"#]+)#([^"]+)"', rendered(name)):
            assert f'id="{anchor}"' in rendered(other), f"{name}: {other}#{anchor}"


def test_no_page_loads_anything_or_runs_a_script() -> None:
    for name in titles():
        assert not re.search(r"<(img|script|iframe|link|style)\b|\son\w+=", rendered(name)), name


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("operate.md#alerts", f"{PATH}/operate#alerts"),
        ("#here", "#here"),
        ("https://example.com/x", "https://example.com/x"),
        ("../SECURITY.md", None),
        ("decisions/0080-the-console.md", None),
        ("console/overview.png", None),
    ],
)
def test_a_link_leads_to_a_page_or_nowhere(href: str, expected: str | None) -> None:
    assert link(href) == expected


def test_a_link_to_a_page_that_is_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing"):
        url_of("nothing.md")


async def test_the_pages_are_shown_to_who_is_signed_in(here: ConsoleHere, reader: Reader) -> None:
    async with here.stranger() as stranger:
        outside = await stranger.get(f"{PATH}/suspension")
    every = await reader.get(PATH)
    page = await reader.get(f"{PATH}/suspension")
    missing = [(await reader.get(f"{PATH}/{name}")).status for name in ("nothing", "..%2Fx", "x.md")]

    assert outside.status == 401
    assert f'href="{PATH}/suspension"' in every.text
    assert (page.status, 'id="what-to-do"' in page.text) == (200, True)
    assert missing == [404] * 3


async def test_the_overview_links_to_what_to_do(here: ConsoleHere, reader: Reader) -> None:
    here.platform.parts.meters.dead_letters = 1
    page = await reader.get("/console")

    assert f'href="{PATH}/run-on-one-server#look-after-it"' in page.text


def test_a_package_has_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.md").write_text("# One\n\nText.\n")
    monkeypatch.setattr(documentation, "PACKED", tmp_path)
    titles.cache_clear()
    try:
        assert titles() == {"one": "One"}
    finally:
        titles.cache_clear()
