"""The life of both example stacks with the real Pulumi: up, nothing to do, a release, refresh, destroy.

Nothing that is ordered is ready at once, and the stack waits for it by itself. The build of a function fails:
in the minimal stack when it is created, in the other in a release. The step of docs/operate.md repeats it.
Topics and push subscriptions of the minimal one are made on the Pub/Sub emulator, and carry events there.
A wrong program is refused by the policies.

Google is not asked: the CLI finds the stand-in for Google's provider on PATH (`tests/infra/standin`). Without
the CLI these tests are skipped.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from aep.google.functions_on_emulators import Function, GooglePlatform
from event_platform.wiring import SETTINGS
from stack.source import FOLDER
from standin import launcher
from standin.cloud import Cloud
from support.components import require
from support.deployed import SECRETS, configuration
from support.mail_server import mail_server
from support.main_path import (
    IN_FORCE_SECONDS,
    PIM_TOPIC,
    a_500_is_tried_again,
    a_suspension_is_told,
    an_event_by_http_is_delivered,
    an_event_by_the_topic_is_delivered,
    settings,
    subscribe,
    what_nobody_can_read_becomes_a_dead_letter,
)
from support.one_pim import PIM, PRIMARY
from support.processes import server

REPOSITORY = FOLDER.parent
FUNCTION = "gcp:cloudfunctionsv2/function:Function"
ARCHIVE = "gcp:storage/bucketObject:BucketObject"
STACK = "pulumi:pulumi:Stack"
SECONDS = 300
RIGHTS_SECONDS = 4
READY_AFTER = {"rights": RIGHTS_SECONDS - 1, "agents": RIGHTS_SECONDS - 1, "metrics": 3600}
"""When what the stack orders is ready at the stand-in for Google."""


@dataclass
class Pulumi:
    """A stack with a backend and a copy of the program of its own."""

    folder: Path
    stack: str

    @property
    def source(self) -> Path:
        return self.folder / "functions"

    @property
    def cloud(self) -> Cloud:
        """The resources that Google has, and the calls that fail there."""
        return Cloud(self.folder / "cloud")

    def start(self, **config: str) -> None:
        """A new stack from the example, with its secrets and what is changed of its configuration."""
        for name in ("infra", "functions"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, self.folder / name, ignore=ignored)
        for name in ("pyproject.toml", "uv.lock"):  # by which Pulumi guesses how Python is set up
            shutil.copy(REPOSITORY / name, self.folder)
        (self.folder / ".venv").symlink_to(sys.prefix)
        for name in ("state", "cloud"):
            (self.folder / name).mkdir()
        self.run("stack", "init", self.stack)  # and so it is the one that is meant from here on
        for key in SECRETS.keys() & configuration(self.stack).keys():
            self.run("config", "set", "--secret", key, SECRETS[key])
        # What is ordered is ready later, and the stack waits for it: rights here within seconds, not minutes.
        self.cloud.write_plan(ready_after=READY_AFTER)
        self.run("config", "set", "rightsSeconds", str(RIGHTS_SECONDS))
        for key, value in config.items():
            self.run("config", "set", key.replace("__", ":"), value)

    def run(self, *arguments: str, fails: bool = False) -> str:
        """What the command printed. It has to end well, or not to when it `fails`."""
        started = time.monotonic()
        ended = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder / "infra",
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        print(f"pulumi {' '.join(arguments[:2])}: {time.monotonic() - started:.1f} s")
        told = ended.stdout + ended.stderr
        assert (ended.returncode != 0) is fails, told[-5000:]
        return told

    def up(self, *arguments: str, fails: bool = False) -> str:
        """Runs `pulumi up` without its preview."""
        return self.run("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def archive(self) -> str:
        """Returns the name of the archive that the stack's state has."""
        (archive,) = (each for each in self.resources().values() if each["type"] == ARCHIVE)
        return archive["inputs"]["name"]

    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """What the stack's state holds, by URN."""
        exported = json.loads(self.run("stack", "export", "--show-secrets"))
        return {each["urn"]: each for each in exported["deployment"].get("resources", [])}

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEP_", "GOOGLE_"))}
        return kept | {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "STANDIN_CLOUD": str(self.folder / "cloud"),
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "for tests",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "NO_COLOR": "1",
        }


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    require("pulumi", shutil.which("pulumi"))
    launcher.install(tmp_path / "bin")
    return Pulumi(tmp_path, "")


def changed(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """The types of what was created, changed or deleted in between."""
    return sorted(
        (after.get(urn) or before[urn])["type"]
        for urn in before.keys() | after.keys()
        if before.get(urn, {}).get("inputs") != after.get(urn, {}).get("inputs")
    )


def change_the_source(pulumi: Pulumi) -> None:
    with (pulumi.source / "main.py").open("a") as main:
        main.write("# a release\n")


def fail_builds_of(pulumi: Pulumi, function: str) -> None:
    fault = {"type": FUNCTION.removeprefix("gcp:"), "name": function, "how": "half-way"}
    pulumi.cloud.write_plan(faults=[fault], ready_after=READY_AFTER)


def a_first_build_that_fails_is_repeated(pulumi: Pulumi, function: str) -> None:
    """An `up` alone does not build it: Pulumi takes the function for made. It names the step that does."""
    fail_builds_of(pulumi, function)
    assert "Build failed" in pulumi.up("--policy-pack", "policy", fails=True)
    told = pulumi.up(fails=True)
    assert f"the function {function} was never built" in told
    assert "`pulumi config set attempt 2`, then `pulumi up`" in told
    assert pulumi.cloud.archives()[function] is None

    pulumi.run("config", "set", "attempt", "2")
    pulumi.run("up", "--yes", "--policy-pack", "policy")
    assert set(pulumi.cloud.archives().values()) == {pulumi.archive()}


def a_build_that_fails_in_a_release_is_repeated(pulumi: Pulumi, function: str) -> None:
    """The next `up` is green while the function runs the code of before, until the step is taken."""
    before = pulumi.archive()
    change_the_source(pulumi)
    fail_builds_of(pulumi, function)
    assert "Build failed" in pulumi.up(fails=True)
    pulumi.up()
    others = {name: pulumi.archive() for name in SETTINGS}
    assert pulumi.archive() != before
    assert pulumi.cloud.archives() == others | {function: before}

    pulumi.run("config", "set", "attempt", "2")
    pulumi.up()
    assert pulumi.archive().endswith("-2.zip")
    assert pulumi.cloud.archives() == {name: pulumi.archive() for name in SETTINGS}


def end(pulumi: Pulumi) -> None:
    """Nobody destroys what holds data by accident; on purpose it goes as a whole."""
    assert "protected" in pulumi.run("destroy", "--yes", "--skip-preview", fails=True)
    pulumi.run("state", "unprotect", "--all", "--yes")
    pulumi.run("destroy", "--yes", "--skip-preview")
    assert not pulumi.resources()
    assert not list(pulumi.cloud.all())


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_the_life_of_the_production_stack(pulumi: Pulumi) -> None:
    pulumi.stack = "production"
    pulumi.start()
    assert "to create" in pulumi.run("preview")
    pulumi.up("--policy-pack", "policy")
    pulumi.up("--expect-no-changes")
    a_build_that_fails_in_a_release_is_repeated(pulumi, "deliver")
    pulumi.run("refresh", "--yes", "--expect-no-changes")
    pulumi.run("preview", "--expect-no-changes")
    end(pulumi)


@pytest.mark.timeout(1500)
def test_the_life_of_the_minimal_stack_whose_topics_are_real_and_carry_events(
    pulumi: Pulumi, pubsub_host: str, firestore_host: str, project: str
) -> None:
    pulumi.stack = "minimal"
    pulumi.start(
        gcp__project=project,
        gcp__billingProject=project,
        gcp__pubsubCustomEndpoint=f"http://{pubsub_host}/v1/",
        pimTopics=json.dumps([{"pim": PIM, "publisher": "serviceAccount:pim@x.iam.gserviceaccount.com"}]),
    )
    there = Emulated(pubsub_host, project)
    preview = pulumi.run("preview", "--policy-pack", "policy")
    assert "to create" in preview
    assert "advisory" not in preview
    assert not there.all("topics")

    a_first_build_that_fails_is_repeated(pulumi, "fanout")
    first = pulumi.resources()
    pulumi.up("--expect-no-changes")
    change_the_source(pulumi)
    pulumi.up()
    assert changed(first, pulumi.resources()) == [*[FUNCTION] * 6, ARCHIVE]
    pulumi.run("refresh", "--yes", "--expect-no-changes")

    topics = there.all("topics")
    assert set(topics) == {"events", "deliveries-0", "notifications", "dead-letters", PIM_TOPIC}
    subscriptions = there.all("subscriptions")
    assert set(subscriptions) == set(topics)
    for name, subscription in subscriptions.items():
        assert subscription["topic"] == f"projects/{project}/topics/{name}"
        assert subscription["ackDeadlineSeconds"] == 60
    assert subscriptions["deliveries-0"]["enableMessageOrdering"]
    assert subscriptions["deliveries-0"]["pushConfig"]["pushEndpoint"].endswith("/deliveries-0")
    assert subscriptions["events"]["deadLetterPolicy"]["maxDeliveryAttempts"] == 100
    assert "pushEndpoint" not in subscriptions["dead-letters"].get("pushConfig", {})

    asyncio.run(carry_events(there, firestore_host, pulumi.folder))
    pulumi.run("preview", "--expect-no-changes")
    end(pulumi)
    assert not there.all("topics")
    assert not there.all("subscriptions")


def test_a_program_that_lets_everybody_into_a_private_function_is_refused(pulumi: Pulumi) -> None:
    pulumi.stack = "minimal"
    pulumi.start()
    program = pulumi.folder / "infra" / "stack" / "function.py"
    right = "self.caller.member if self.caller else"
    assert right in program.read_text()
    program.write_text(program.read_text().replace(f"{right} ", ""))
    told = pulumi.run("preview", "--policy-pack", "policy", fails=True)
    assert "deliver-invoker lets everybody in; only manage and ingest are public" in told


@dataclass(frozen=True)
class Emulated:
    """A project on the Pub/Sub emulator."""

    host: str
    project: str

    def all(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """Its `topics` or `subscriptions` by name."""
        answer = requests.get(f"{self._url}/{kind}", timeout=10)
        return {each["name"].rpartition("/")[2]: each for each in answer.json().get(kind, [])}

    def lead_pushes_to(self, functions: Mapping[str, Function]) -> None:
        """Changes nothing but the host of each push: from the function at Google to the one here."""
        for name, subscription in self.all("subscriptions").items():
            if not (push := subscription.get("pushConfig", {})).get("pushEndpoint"):
                continue
            endpoint = urlsplit(push["pushEndpoint"])
            function = (endpoint.hostname or "").partition("-")[0]
            here = push | {"pushEndpoint": functions[function].url + endpoint.path}
            url = f"{self._url}/subscriptions/{name}:modifyPushConfig"
            requests.post(url, json={"pushConfig": here}, timeout=10).raise_for_status()

    @property
    def _url(self) -> str:
        return f"http://{self.host}/v1/projects/{self.project}"


async def carry_events(there: Emulated, firestore_host: str, folder: Path) -> None:
    """The main path on the topics and push subscriptions that the stack made."""
    arguments = ("inbox", "--quiet", "--secret", PRIMARY)
    with mail_server() as mail, server(folder, *arguments) as inbox:
        platform = GooglePlatform(
            there.project,
            pubsub=there.host,
            firestore=firestore_host,
            folder=folder,
            settings=settings(mail),
        )
        try:
            await platform.start_functions()
            there.lead_pushes_to(platform.functions)
            good, flaky = await subscribe(platform, inbox.url, "erp", ("/hook", "/flaky"))
            await asyncio.sleep(IN_FORCE_SECONDS)
            await an_event_by_http_is_delivered(good)
            await an_event_by_the_topic_is_delivered(good)
            await a_500_is_tried_again(flaky)
            await a_suspension_is_told(platform, mail, inbox.url)
            await what_nobody_can_read_becomes_a_dead_letter(platform)
        finally:
            await platform.stop()
