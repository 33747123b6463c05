"""The life of both example stacks with the real Pulumi: up, nothing to do, a release, refresh, destroy.

Google is not asked: the CLI finds a stand-in for Google's provider on PATH, or these tests are skipped.
"""

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

import pytest
import requests

from components import require
from deployed import SECRETS, configuration
from stack.source import FOLDER

REPOSITORY = FOLDER.parent
FUNCTION = "gcp:cloudfunctionsv2/function:Function"
ARCHIVE = "gcp:storage/bucketObject:BucketObject"
STACK = "pulumi:pulumi:Stack"
SECONDS = 300


@dataclass
class Pulumi:
    """A stack with a backend and a copy of the program of its own."""

    folder: Path
    stack: str

    @property
    def source(self) -> Path:
        return self.folder / "functions"

    def start(self, **config: str) -> None:
        """A new stack from the example, with its secrets and what is changed of its configuration."""
        for name in ("infra", "functions"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, self.folder / name, ignore=ignored)
        for name in ("pyproject.toml", "uv.lock"):  # by which Pulumi guesses how Python is set up
            shutil.copy(REPOSITORY / name, self.folder)
        (self.folder / ".venv").symlink_to(sys.prefix)
        (self.folder / "state").mkdir()
        self.run("stack", "init", self.stack)  # and so it is the one that is meant from here on
        for key in SECRETS.keys() & configuration(self.stack).keys():
            self.run("config", "set", "--secret", key, SECRETS[key])
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

    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """What the stack's state holds, by URN."""
        exported = json.loads(self.run("stack", "export", "--show-secrets"))
        return {each["urn"]: each for each in exported["deployment"].get("resources", [])}

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AEP_", "GOOGLE_"))}
        return kept | {
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "for tests",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "NO_COLOR": "1",
        }


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    require(
        "pulumi with a stand-in for Google's provider",
        shutil.which("pulumi") and shutil.which("pulumi-resource-gcp"),
    )
    return Pulumi(tmp_path, "")


def changed(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """The types of what was created, changed or deleted in between."""
    return sorted(
        (after.get(urn) or before[urn])["type"]
        for urn in before.keys() | after.keys()
        if before.get(urn, {}).get("inputs") != after.get(urn, {}).get("inputs")
    )


def live(pulumi: Pulumi) -> None:
    """From an empty project to an empty project."""
    pulumi.run("up", "--yes", "--skip-preview", "--policy-pack", "policy")
    first = pulumi.resources()
    pulumi.run("up", "--yes", "--skip-preview", "--expect-no-changes")

    with (pulumi.source / "main.py").open("a") as main:
        main.write("# a release\n")
    pulumi.run("up", "--yes", "--skip-preview")
    assert changed(first, pulumi.resources()) == [*[FUNCTION] * 6, ARCHIVE]

    pulumi.run("refresh", "--yes", "--expect-no-changes")


def end(pulumi: Pulumi) -> None:
    """Nobody destroys what holds data by accident; on purpose it goes as a whole."""
    assert "protected" in pulumi.run("destroy", "--yes", "--skip-preview", fails=True)
    pulumi.run("state", "unprotect", "--all", "--yes")
    pulumi.run("destroy", "--yes", "--skip-preview")
    assert not pulumi.resources()


@pytest.mark.timeout(1500)
def test_the_life_of_the_production_stack(pulumi: Pulumi) -> None:
    pulumi.stack = "production"
    pulumi.start()
    live(pulumi)
    end(pulumi)


@pytest.mark.timeout(1500)
def test_the_life_of_the_minimal_stack_whose_topics_are_real(
    pulumi: Pulumi, pubsub_host: str, project: str
) -> None:
    pulumi.stack = "minimal"
    pulumi.start(gcp__project=project, gcp__pubsubCustomEndpoint=f"http://{pubsub_host}/v1/")

    def there(kind: str) -> Mapping[str, Mapping[str, Any]]:
        answer = requests.get(f"http://{pubsub_host}/v1/projects/{project}/{kind}", timeout=10)
        return {each["name"].rpartition("/")[2]: each for each in answer.json().get(kind, [])}

    live(pulumi)
    assert set(there("topics")) == {"events", "deliveries-0", "notifications", "dead-letters"}
    subscriptions = there("subscriptions")
    assert set(subscriptions) == set(there("topics"))
    for name, subscription in subscriptions.items():
        assert subscription["topic"] == f"projects/{project}/topics/{name}"
        assert subscription["ackDeadlineSeconds"] == 60
    assert subscriptions["deliveries-0"]["enableMessageOrdering"]
    assert subscriptions["deliveries-0"]["pushConfig"]["pushEndpoint"].endswith("/deliveries-0")
    assert subscriptions["events"]["deadLetterPolicy"]["maxDeliveryAttempts"] == 100
    assert "pushEndpoint" not in subscriptions["dead-letters"].get("pushConfig", {})
    end(pulumi)
    assert not there("topics")
    assert not there("subscriptions")
