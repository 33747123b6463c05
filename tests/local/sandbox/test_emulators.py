"""`aep.google.emulators` finds, starts, uses and ends Google's emulators."""

import os
import urllib.request
from pathlib import Path

import pytest

from aep.google import emulators
from support.components import require


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulators, "_SDK_PLACES", ())
    found = emulators.find({"PATH": str(tmp_path)})
    assert (found.java, found.pubsub_jar, found.firestore_jar) == (None, None, None)
    assert len(found.problems) == 3
    assert "gcloud components install pubsub-emulator" in found.problems[1]


def test_an_emulator_that_is_not_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulators, "_SDK_PLACES", ())
    with (
        pytest.raises(emulators.EmulatorFailed, match="java"),
        emulators.running_pubsub({"PATH": str(tmp_path)}),
    ):
        pass


def test_one_that_runs_already_is_used() -> None:
    with emulators.running_firestore({emulators.FIRESTORE_HOST: "127.0.0.1:8080"}) as host:
        assert host == "127.0.0.1:8080"


def test_the_sdk_is_found_beside_gcloud(tmp_path: Path) -> None:
    (tmp_path / "sdk/bin").mkdir(parents=True)
    gcloud = tmp_path / "sdk/bin/gcloud"
    gcloud.write_text("#!/bin/sh\n")
    gcloud.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gcloud").symlink_to(gcloud)
    jar = tmp_path / "sdk/platform/pubsub-emulator/lib/cloud-pubsub-emulator-1.2.3-all.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    assert emulators.find({"PATH": str(tmp_path / "bin")}).pubsub_jar == jar


def test_one_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho this Java is too old\nexit 1\n")
    java.chmod(0o755)
    (tmp_path / "platform/cloud-firestore-emulator").mkdir(parents=True)
    (tmp_path / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar").touch()
    environ = {"PATH": str(tmp_path), "CLOUDSDK_ROOT_DIR": str(tmp_path)}
    with (
        pytest.raises(emulators.EmulatorFailed, match="this Java is too old"),
        emulators.running_firestore(environ),
    ):
        pass


@pytest.mark.emulators
def test_one_of_our_own_is_gone_after_the_block() -> None:
    found = emulators.find()
    require("Google's Firestore emulator", found.java and found.firestore_jar)
    with emulators.running_firestore({"PATH": os.environ["PATH"]}) as host:
        with urllib.request.urlopen(f"http://{host}/", timeout=5) as response:
            assert response.read().strip() == b"Ok"
        emulators.clear_firestore(host, "some-project")
    with pytest.raises(emulators.EmulatorFailed):
        emulators.clear_firestore(host, "some-project")


def test_a_test_has_a_pubsub_emulator(pubsub_host: str) -> None:
    with urllib.request.urlopen(f"http://{pubsub_host}/", timeout=5) as response:
        assert response.status == 200
