"""A misspelt key or method of what is composed fails the type checker, and so `make lint`."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = """\
from aep.workers.channel import Channel
from aep.workers.sides import WorkerSide
from event_platform import ingest, manage
from event_platform.manage import subscribers
from event_platform.manage.identity import Caller


def services(clock, registry, intake, catalog, reader) -> None:
    ingest.Ingest(registry=registry, intake=intake, catalog=catalog, clok=clock, reader=reader)


async def use_case(caller: Caller, function: manage.Manage) -> None:
    await subscribers.get_subscriber(caller, "1", manag=function)


def told(channel: Channel) -> None:
    channel.send(WorkerSide.putt, [])
    channel.send(WorkerSide.forget, 1)
    channel.send(WorkerSide.forget, ["1"])
"""
LINES = {9, 13, 17, 18}
"""The lines that are wrong, counted from 1; the last one is right."""


def test_misspelt_keys_and_methods_are_found(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(EXAMPLE)
    command = [sys.executable, "-m", "pyright", "--outputjson", str(example)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    diagnostics = json.loads(found.stdout)["generalDiagnostics"]
    wrong = {each["range"]["start"]["line"] + 1 for each in diagnostics if each["severity"] == "error"}
    assert wrong == LINES, diagnostics
