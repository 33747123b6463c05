"""The command line's manners: one line on standard error that says what to do, status 2 for wrong usage."""

from pathlib import Path

import pytest

from processes import command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "x"], "Invalid value for '--port'"),
        (["pims", "client"], "Missing argument"),
        (["nonsense"], "No such command 'nonsense'"),
        (["pims", "add", "https://pim.example.com", "--auth", "magic"], "Invalid value for '--auth'"),
    ],
)
def test_wrong_usage_is_one_line_with_status_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    with command(tmp_path, *arguments) as child:
        assert child.wait() == 2
        assert child.stdout() == ""
        (line,) = child.stderr().splitlines()
        assert line.startswith(f"aep: {message}")


def test_looking_at_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with command(tmp_path, "pims", "list", "--json", "--data", str(tmp_path / "data")) as child:
        assert child.wait() == 0
        assert child.stdout() == "[]\n"
    assert not (tmp_path / "data").exists()
