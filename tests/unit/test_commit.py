"""The commit is that of the checkout, and is left out where there is none."""

import subprocess
from pathlib import Path

import pytest

from aep.commit import CHECKOUT, commit_of


def test_it_is_that_of_the_checkout(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    found = commit_of(tmp_path)
    assert found is not None
    assert len(found) == 12
    assert head.startswith(found)


def test_a_folder_without_one_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_of(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert commit_of(CHECKOUT) is None
