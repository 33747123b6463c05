"""The commands of *The first event* in docs/operate.md, from a registry without a PIM to a delivered event.

They run as the page has them, in one shell, against the six functions on Google's emulators. `pulumi` is a
script that prints what a stack has; what the page has a reader paste is pasted here.
"""

import asyncio
import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from aep.google.functions_on_emulators import FUNCTIONS, GooglePlatform, running
from stack.source import FOLDER
from support.one_pim import PIM
from support.processes import Client, environment, received, send_events, server, until

REPOSITORY = FOLDER.parent
PAGE = REPOSITORY / "docs" / "operate.md"
ARCHIVE = "functions-0123456789abcdef.zip"
SECONDS = 120


def blocks() -> Sequence[str]:
    """The shell blocks of the section, without the indentation of their list."""
    section = PAGE.read_text().partition("\n## The first event\n")[2].partition("\n## ")[0]
    found = re.findall(r"^( *)```sh\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    return ["".join(line.removeprefix(indent) for line in text.splitlines(True)) for indent, text in found]


class Shell:
    """A reader's shell: what a block exports or defines is there in the next."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        (folder / ".venv").symlink_to(REPOSITORY / ".venv")
        self._folder = folder
        self._state = folder / "state.sh"
        self._state.touch()
        path = f"{folder}:{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"
        self._environment = environment({}) | dict(settings) | {"PATH": path}
        self.said = ""

    def run(self, block: str) -> str:
        """What it printed. It has to end well."""
        kept = f"{{ export -p; declare -f; }} >{self._state}.new && mv {self._state}.new {self._state}"
        script = f"set -aeuo pipefail\nsource {self._state}\n{block}\n{kept}"
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, block + ended.stdout + ended.stderr
        self.said += ended.stdout
        return ended.stdout


def a_pulumi(folder: Path, project: str, platform: GooglePlatform) -> None:
    """Prints what the page asks the stack for, and fails for anything else."""
    functions = {name: platform.functions[name].url for name in FUNCTIONS}
    told = {
        "project": project,
        "region": "europe-west1",
        "archive": ARCHIVE,
        "functions": functions,
        "managementUrl": functions["manage"],
        "ingestUrl": f"{functions['ingest']}/ingest",
    }
    registry_key = platform.functions["ingest"].environment["AEP_REGISTRY_KEY"]
    answers = {
        "-C infra config get gcp:project": project,
        "-C infra config get registryKey": registry_key,
        "-C infra stack output --json": json.dumps(told),
        **{f"-C infra stack output {name}": told[name] for name in ("managementUrl", "ingestUrl")},
    }
    script = folder / "pulumi"
    cases = "\n".join(f"{words!r}) cat <<'E'\n{answer}\nE\n;;" for words, answer in answers.items())
    script.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\n*) exit 1;;\nesac\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def follow(shell: Shell, platform: GooglePlatform, endpoint: str) -> None:
    """As a reader does: one block after the other, pasting what was printed, and not within 5 seconds."""
    printed = {
        "AEP_INGEST_KEY": r"Ingest key .*\n +(\S+)",
        "AEP_PIM_TOKEN": r"X-PIM-TOKEN of client .*\n +(\S+)",
    }
    pasted: dict[str, str] = {}
    for block in blocks():
        lines: list[str] = []
        for line in block.splitlines():
            name, is_pasted, _ = line.removeprefix("export ").partition("=…")
            if is_pasted:
                said = shell.run("\n".join(lines))  # the reader ran what stands above it first
                pasted[name] = re.findall(printed[name], said)[0]
                lines = [f"export {name}={pasted[name]}"]
            else:
                lines.append(line)
        shell.run("\n".join(lines).replace("https://inbox.example.com/first", endpoint))
        if "AEP_PIM_TOKEN" in block:
            until(lambda: is_known(platform, pasted), "the PIM and its client at the functions", seconds=60)


def is_known(platform: GooglePlatform, pasted: Mapping[str, str]) -> bool:
    """True once manage and ingest have read the registry again.

    What ingest gets is no event, so that fanout does not remember a PIM without subscriptions.
    """
    client = Client(platform.functions["manage"].url, PIM, pasted["AEP_PIM_TOKEN"], "first-app")
    return (
        client.call("GET", "/subscribers").status_code == 200
        and send_events(platform.functions["ingest"].url, pasted["AEP_INGEST_KEY"], {}) == 400
    )


@pytest.mark.full
async def test_whoever_follows_the_page_gets_the_first_event(
    pubsub_host: str, firestore_host: str, project: str, tmp_path: Path
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    with server(tmp_path, "inbox", "--quiet", "--secret", "my-signing-secret") as inbox:
        async with running(
            project,
            pubsub=pubsub_host,
            firestore=firestore_host,
            folder=tmp_path,
            settings={"AEP_ARCHIVE": ARCHIVE},
        ) as platform:
            a_pulumi(folder, project, platform)
            shell = Shell(folder, {"FIRESTORE_EMULATOR_HOST": firestore_host, "AEP_DEV": "true"})
            await asyncio.to_thread(follow, shell, platform, f"{inbox.url}/first")
            assert [line for line in shell.said.splitlines() if line.startswith("problem")] == []
            assert shell.said.count(f"runs {ARCHIVE}") == len(FUNCTIONS)
            assert "1 accepted, 0 failed" in shell.said

            (delivery,) = await asyncio.to_thread(
                until, lambda: received(inbox.url, "/first"), "the first event at the inbox", seconds=60
            )
    assert delivery["status"] == 200  # the inbox refuses a wrong signature


@pytest.mark.parametrize("word", ["MY-PROJECT", "REGION"])
def test_nothing_is_left_to_be_filled_in_but_what_is_said(word: str) -> None:
    assert not [block for block in blocks() if word in block]
