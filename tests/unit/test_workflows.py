"""The public CI, and what pages tell a contributor: they call only targets of the Makefile that exist."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.joinpath("docs").rglob("*.md"), *GITHUB.rglob("*.md")])


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield f"{path.name}: {name}", job


JOBS = list(jobs())


def commands(job: dict[str, Any]) -> list[str]:
    return [line for step in job.get("steps", []) for line in step.get("run", "").splitlines()]


def test_there_are_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["audit.yml", "checks.yml", "release.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_says_more(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(("name", "job"), JOBS, ids=[name for name, _ in JOBS])
def test_a_job_calls_nothing_but_targets_that_exist(name: str, job: dict[str, Any]) -> None:
    called = [re.fullmatch(r"make ([a-z-]+)", command) for command in commands(job)]
    assert all(called), commands(job)
    assert {match[1] for match in called if match} <= TARGETS
    assert called or job["uses"].startswith("./.github/workflows/")


@pytest.mark.parametrize(("name", "job"), JOBS, ids=[name for name, _ in JOBS])
def test_a_job_ends_in_time_and_keeps_no_credentials(name: str, job: dict[str, Any]) -> None:
    if "uses" in job:  # its jobs stand in the workflow that it calls
        return
    assert job["timeout-minutes"] <= 60
    (checkout,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["persist-credentials"] is False


def test_fast_tests_run_on_every_python_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    matrix = read(GITHUB / "workflows" / "checks.yml")["jobs"]["unit"]["strategy"]["matrix"]
    assert matrix["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_each_target_that_exists_is_described() -> None:
    described = set(re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert described == TARGETS


def test_make_alone_lists_every_target_in_groups_of_80_columns() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"^  ([a-z-]+) +\S", printed, re.MULTILINE)) == TARGETS
    assert len(re.findall(r"^[A-Z].*\n  [a-z]", printed, re.MULTILINE)) >= 4
    assert [line for line in printed.splitlines() if len(line) > 80] == []


def test_the_java_that_pages_ask_for_is_no_newer_than_that_of_the_workflow() -> None:
    sources = [REPOSITORY / "README.md", REPOSITORY / "local" / "aep" / "google" / "emulators.py"]
    asked = {number for path in sources for number in re.findall(r"Java[a-z ,]* (\d+)", path.read_text())}
    (steps,) = [job["steps"] for _, job in JOBS if "java-version" in str(job)]
    (java,) = [step["with"]["java-version"] for step in steps if "java-version" in step.get("with", {})]
    assert len(asked) == 1, asked
    assert int(asked.pop()) <= int(java)


def test_the_workflow_runs_what_must_hold_for_every_commit() -> None:
    checks = read(GITHUB / "workflows" / "checks.yml")["jobs"].values()
    called = {command for job in checks for command in commands(job)}
    here = set(re.findall(r"^make .*", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE))
    assert here - {"make setup"} <= called


def test_a_release_waits_for_the_checks() -> None:
    release = read(GITHUB / "workflows" / "release.yml")
    assert release["jobs"]["checks"]["uses"] == "./.github/workflows/checks.yml"
    assert release["jobs"]["release"]["needs"] == "checks"


def test_newer_versions_are_proposed_for_what_is_locked_and_for_actions() -> None:
    updates = read(GITHUB / "dependabot.yml")["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"uv", "npm", "github-actions"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_the_host_wants(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert all(each["attributes"]["label"] for each in fields)
    assert len({each["id"] for each in fields}) == len(fields)


def test_hooks_of_a_commit_are_programs_of_the_environment() -> None:
    repositories = read(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/uv run --offline --no-sync ")
        files = re.findall(r"\S+\.py\b", hook["entry"])
        assert [name for name in files if not (REPOSITORY / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_makes_can_be_made(page: Path) -> None:
    text = page.read_text()
    made = set(re.findall(r"(?:`|^ *|&& )make ([a-z][a-z-]*)", "\n".join(shown(text)), re.MULTILINE))
    assert made <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_file_that_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    files = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in files if not (page.parent / link).exists()] == []


def shown(text: str) -> Iterator[str]:
    """The parts of a page that show code: blocks, and what stands between single backticks."""
    yield from re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`[^`\n]+`", text)
