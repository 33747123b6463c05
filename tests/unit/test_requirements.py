"""What is installed is what the lock names, by its hash, and every dependency has its reason."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCK: dict[str, Any] = tomllib.loads((REPOSITORY / "uv.lock").read_text())
PAGE = (REPOSITORY / "docs" / "dependencies.md").read_text()
MAKEFILE = (REPOSITORY / "Makefile").read_text()
EXPORTED = ["functions/requirements.txt", "requirements-server.txt", "requirements-build.txt"]


@pytest.mark.parametrize("file", EXPORTED)
def test_the_requirements_are_those_of_the_lock(file: str) -> None:
    commands = re.findall(r"\$\(BIN\)/uv (export(?:.*\\\n)*.*)--output-file (.*)", MAKEFILE)
    assert [output for _, output in commands] == EXPORTED
    command = next(command for command, output in commands if output == file)
    exported = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), *command.replace("\\\n", " ").split()],
        cwd=REPOSITORY,
        env={**os.environ, "UV_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stderr
    assert (REPOSITORY / file).read_text() == exported.stdout, "run `make requirements`"


def names(requirements: Iterable[Any]) -> set[str]:
    """Without versions and extras; a group that is included stands elsewhere."""
    return {re.split(r"[\[<>=~; ]", each)[0] for each in requirements if isinstance(each, str)}


def test_every_dependency_has_its_reason_and_no_reason_is_left_over() -> None:
    groups = PROJECT["dependency-groups"]
    extras = [
        each for extra in PROJECT["project"].get("optional-dependencies", {}).values() for each in extra
    ]
    ours = [*PROJECT["project"]["dependencies"], *extras, *groups["functions"], *groups["infra"]]
    wanted = names(ours)
    first_cells = re.findall(r"^\| ([a-z][^|]*) \| (?!for \|)\S", PAGE, re.MULTILINE)
    told = {name for cell in first_cells for name in re.sub(r" \(.*?\)", "", cell).split(", ")}
    assert told == wanted
    development = PAGE.partition("For development:")[2]
    told = set(re.findall(r"[a-z][a-z-]*[a-z]", development))
    assert names([*groups["dev"], *groups["docs"]]) - told == set()


def test_whatever_is_installed_is_known_by_its_hash() -> None:
    for package in LOCK["package"]:
        source = package["source"]
        if "editable" in source:
            continue
        assert source == {"registry": "https://pypi.org/simple"}, package["name"]
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


@pytest.mark.parametrize("file", EXPORTED)
def test_whatever_is_deployed_is_known_by_its_hash(file: str) -> None:
    wanted = re.split(r"\n(?=\S)", (REPOSITORY / file).read_text().strip())
    lines = [each for each in wanted if not each.startswith("#")]
    assert len(lines) > (20 if file != "requirements-build.txt" else 3)
    assert [each for each in lines if "--hash=sha256:" not in each] == []


def test_one_server_gets_what_the_package_needs_and_no_tools() -> None:
    wanted = names(re.findall(r"^\S+", (REPOSITORY / "requirements-server.txt").read_text(), re.MULTILINE))
    assert names(PROJECT["project"]["dependencies"]) <= wanted
    assert not wanted & {"pytest", "pulumi", "google-cloud-pubsub", "functions-framework"}
