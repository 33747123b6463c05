"""A feed as an operator sets it up, of a simulated PIM, in a platform that is killed and starts again."""

import io
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from unittest import mock

import orjson
import pytest

from aep.sandbox.pim.connections import DEFAULT_CLIENT
from support.aep_here import run
from support.processes import server, until


@pytest.mark.full
def test_what_changed_comes_once_though_the_platform_is_killed(tmp_path: Path) -> None:
    option = ["--data", str(tmp_path / "data")]
    with server(tmp_path, "sim", "--timezone", "Europe/Paris", "--behind-proxy") as pim:
        assert run("pims", "add", pim.url, *option).status == 0
        who = (
            "--client-id",
            DEFAULT_CLIENT.client_id,
            "--username",
            DEFAULT_CLIENT.username,
            "--secret",
            "-",
        )
        with mock.patch.object(
            sys, "stdin", io.StringIO(f"{DEFAULT_CLIENT.secret}\n{DEFAULT_CLIENT.password}\n")
        ):
            assert run("pims", "feed", pim.url, *who, "--since", "2000-01-01", *option).status == 0

        def statuses() -> set[str]:
            shown = orjson.loads(run("pims", "feed", pim.url, "--json", *option).out)
            return {each["status"] for each in shown["resources"]}

        with server(tmp_path, "serve", "--dev", *option) as platform:
            until(lambda: kept(tmp_path), "an event of the feed")
            platform.stop(signal.SIGKILL)
        with server(tmp_path, "serve", "--dev", *option) as platform:
            until(lambda: statuses() == {"ok"}, "all resources were read")
            found = kept(tmp_path)
            assert len(found) == len(set(found)) > 100
            assert {way for way, *_ in found} == {"feed"}
            assert platform.stop() == 0


def kept(folder: Path) -> list[tuple[str, str, str]]:
    """Returns way, type and identity of the events that were accepted."""
    with closing(sqlite3.connect(f"file:{folder / 'data' / 'aep.db'}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT way, type, identity FROM kept").fetchall()
