"""An unchanged source is no new deployment."""

from pathlib import Path

import pytest

from stack.source import digest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "main.py").write_text("print(1)\n")
    (tmp_path / "package" / "data.json").write_text("{}")
    return tmp_path


def test_what_python_leaves_behind_changes_nothing(source: Path) -> None:
    before = digest(source)
    (source / "package" / "__pycache__").mkdir()
    (source / "package" / "__pycache__" / "data.cpython-311.pyc").write_bytes(b"x")
    (source / "main.py").touch()
    assert digest(source) == before


@pytest.mark.parametrize("change", ["bytes", "name", "new"])
def test_any_other_change_does(source: Path, change: str) -> None:
    before = digest(source)
    match change:
        case "bytes":
            (source / "package" / "data.json").write_text("[]")
        case "name":
            (source / "main.py").rename(source / "other.py")
        case _:
            (source / "package" / "empty.py").touch()
    assert digest(source) != before
