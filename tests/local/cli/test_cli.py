"""The command line's manners: one line on standard error that says what to do, status 2 for wrong usage."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
import structlog

from aep.doctor import findings, network
from support.aep_here import run
from support.processes import command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--data", "/dev/null"], "--data /dev/null is no folder: /dev/null is a file"),
        (
            ["serve", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"],
            "--tls-cert /dev/null and --tls-key",
        ),
        (["nonsense"], "no command nonsense"),
    ],
)
def test_wrong_usage_is_one_line_with_status_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    with command(tmp_path, *arguments) as child:
        assert child.wait() == 2
        assert child.stdout() == ""
        (line,) = child.stderr().splitlines()
        assert line.startswith(f"aep: {message}")


@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["restore", "backup.db"], ["pims", "list"], ["pims", "add", "https://pim.example"]],
)
def test_data_that_is_a_file_is_named(tmp_path: Path, arguments: list[str]) -> None:
    file = tmp_path / "a-file"
    file.touch()
    for path in (file, file / "below", file / "far" / "below"):
        ended = run(*arguments, "--data", str(path))
        assert ended.status == 2
        assert ended.err == (
            f"aep: --data {path} is no folder: {file} is a file. Name a folder, or a path to make one at\n"
        )


def test_lines_of_the_log_are_no_part_of_what_a_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked_up(hosts: Sequence[str], network: object) -> list[findings.Check]:
        log = structlog.get_logger()
        log.info("resolver.renewed", reason="of no interest to who asked")
        log.warning("resolver.renewed", reason="of interest")
        return [findings.ok("names", "all")]

    monkeypatch.setattr(network, "names", looked_up)
    for _ in range(2):  # each run has a standard error of its own
        ended = run("doctor", "--json", "--data", str(tmp_path / "data"))
        assert "names" in {check["name"] for check in orjson.loads(ended.out)}
        (line,) = ended.err.splitlines()
        assert orjson.loads(line)["reason"] == "of interest"
    ended = run("doctor", "--data", str(tmp_path / "data"), settings={"AEP_LOG_FORMAT": "text"})
    assert ended.err.endswith('  warning   resolver.renewed        reason="of interest"\n')


def test_looking_at_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with command(tmp_path, "pims", "list", "--json", "--data", str(tmp_path / "data")) as child:
        assert child.wait() == 0
        assert child.stdout() == "[]\n"
    assert not (tmp_path / "data").exists()
