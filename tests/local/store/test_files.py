"""Files that take the place of others at once."""

import os
from pathlib import Path

import pytest

from aep.store.files import new_beside


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    descriptor, path = new_beside(tmp_path / "pims.json")
    os.close(descriptor)
    assert path.parent == tmp_path
    assert path.name.startswith("pims.json")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failure_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "pims.json"
    with pytest.raises(FileNotFoundError) as raised:
        new_beside(path)
    assert raised.value.filename == str(path)
    assert "No such file" in str(raised.value)
