"""`aep console --google` as a person runs it, on Google's emulator of Firestore."""

import asyncio
import re
import signal
from collections.abc import Mapping
from pathlib import Path

from support.aep_here import run
from support.console import stranger
from support.processes import command, until

LINK = re.compile(r"(http://127\.0\.0\.1:\d+)/console/enter\?token=([\w-]+)")


def emulator(firestore_host: str) -> Mapping[str, str]:
    return {"FIRESTORE_EMULATOR_HOST": firestore_host}


async def test_it_serves_on_this_machine_until_ctrl_c(
    firestore_host: str, project: str, tmp_path: Path
) -> None:
    words = ("console", "--google", project, "--no-browser")
    with command(tmp_path, *words, settings=emulator(firestore_host)) as child:
        link = await asyncio.to_thread(until, lambda: LINK.search(child.stdout()), "the link")
        assert link is not None
        async with stranger(link[1]) as reader:
            page = await reader.post("/console/enter", {"token": link[2]})
            assert (page.status, page.url) == (200, f"{link[1]}/console")
            assert (await reader.post("/console/enter", {"token": link[2]})).status == 401
        assert link[2] not in child.stderr()
        child.send(signal.SIGINT)
        assert await asyncio.to_thread(child.wait) == 0


def test_a_wrong_key_is_said_before_it_serves(firestore_host: str, project: str) -> None:
    ended = run(
        "console", "--google", project, settings={"AEP_REGISTRY_KEY": "x", **emulator(firestore_host)}
    )
    assert (ended.status, ended.out) == (2, "")
    assert "AEP_REGISTRY_KEY" in ended.err
