"""The version that the changelog and pages name is the one that runs."""

import re
from datetime import date
from pathlib import Path

from event_platform import USER_AGENT, __version__

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASED = dict(re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", CHANGELOG, re.MULTILINE))


def test_the_changelog_has_the_version_below_what_is_not_released() -> None:
    first, second, *_ = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert first == "[Unreleased]"
    assert second == f"[{__version__}] - {RELEASED[__version__]}"
    assert all(date.fromisoformat(day) for day in RELEASED.values())


def test_tags_on_pages_are_of_versions_that_there_are() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        version for page in pages for version in re.findall(r"(?<!/)\bv(\d+\.\d+\.\d+)\b", page.read_text())
    }
    assert named <= set(RELEASED)


def test_the_version_stands_in_one_place() -> None:
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    sources = [path for folder in ("functions", "local", "infra") for path in (ROOT / folder).rglob("*.py")]
    named = [path.name for path in sources if f'"{__version__}"' in path.read_text()]
    assert named == ["__init__.py"]
    assert f"akeneo-event-platform/{__version__}" == USER_AGENT
