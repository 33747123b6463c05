"""Files that take the place of others at once, and words for what the system refuses."""

import errno
import os
from pathlib import Path

import pytest

from aep.store.files import with_cure, written_beside


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = written_beside(tmp_path / "pims.json", b"[]")
    assert path.parent == tmp_path
    assert path.name.startswith("pims.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"[]"


def test_a_failure_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "pims.json"
    with pytest.raises(FileNotFoundError) as raised:
        written_beside(path, b"[]")
    assert raised.value.filename == str(path)
    assert "No such file" in str(raised.value)


def test_a_file_that_finds_no_room_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / "secrets.key"
    with pytest.raises(OSError, match="No space left") as raised:
        written_beside(path, b"key")
    assert list(tmp_path.iterdir()) == []
    assert with_cure(raised.value) == f"No space left on device: {path}; make room on its disk"


def test_what_the_system_refuses_is_said_without_pythons_form() -> None:
    assert with_cure(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert with_cure(OSError()) == "the system refuses it"
