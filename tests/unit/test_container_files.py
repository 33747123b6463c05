"""Containerfile, compose.yaml and what belongs to them: they name what exists, and an engine builds them."""

import inspect
import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from aep.cli import options
from aep.cli.sandbox import run_inbox
from aep.cli.serve import METRICS_PORT, serve
from aep.cli.sim import run_sim
from event_platform.settings import Settings

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
LINES = "\n".join(line for line in LINES.splitlines() if line and not line.startswith("#"))
BUILD, IMAGE = LINES.split("\nFROM ")[1:]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SANDBOX = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy" / "sandbox.env").read_text().splitlines()
    if not line.startswith("#")
)
PAGE = (ROOT / "docs" / "run-in-a-container.md").read_text()
COMMANDS = {"serve": serve, "sim": run_sim, "inbox": run_inbox}


def last(instruction: str) -> str:
    return re.findall(rf"^{instruction} (.*)$", IMAGE, re.MULTILINE)[-1]


def default(command: str, option: str) -> Any:
    return inspect.signature(COMMANDS[command]).parameters[option].default


def check_command(words: list[str]) -> None:
    """Fails unless `aep` has the command with these options."""
    command, *rest = words
    known = inspect.signature(COMMANDS[command]).parameters
    given = [word.removeprefix("--").replace("-", "_") for word in rest if word.startswith("--")]
    assert set(given) <= set(known)


def test_the_image_runs_the_platform_as_a_user_of_its_own() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["aep"]
    check_command(json.loads(last("CMD")))
    user = re.search(r"groupadd --gid (\d+) .*useradd --uid (\d+)", IMAGE)
    assert user is not None
    assert last("USER") == f"{user[2]}:{user[1]}"
    assert "0" not in user.groups()


def test_its_ports_and_its_folder_are_those_of_the_platform() -> None:
    assert last("EXPOSE") == f"{default('serve', 'port')} {METRICS_PORT}"
    assert f"'127.0.0.1', {default('serve', 'port')}" in last("HEALTHCHECK")
    assert f"AEP_DATA={last('VOLUME')}" in last("ENV").split()
    assert f"install -d -o aep -g aep -m 0700 {last('VOLUME')}" in IMAGE
    assert last("WORKDIR") == last("VOLUME")


def test_all_that_is_installed_is_checked_by_its_hash() -> None:
    installs = [each for each in re.split(r"&&|\n", BUILD + IMAGE) if "pip" in each and "install" in each]
    for each in installs:
        assert "--require-hashes" in each or "--no-index" in each, each
    files = re.findall(r"-r (\S+)", BUILD)
    assert sorted(files) == ["requirements-build.txt", "requirements-server.txt"]
    assert all((ROOT / file).is_file() for file in files)


def test_what_it_copies_is_there_and_not_ignored() -> None:
    copied = [
        path for line in re.findall(r"^COPY ([^-].*) \S+$", BUILD, re.MULTILINE) for path in line.split()
    ]
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(allowed)
    assert [path for path in copied if not list(ROOT.glob(path))] == []
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_its_version_stands_in_one_place() -> None:
    version = r"\b\d+\.\d+\.\d+\b(?!\.)"
    assert re.findall(version, re.sub(r"\d+(\.\d+){3}", "", (ROOT / "Containerfile").read_text())) == []
    assert re.findall(version, re.sub(r"\d+(\.\d+){3}", "", (ROOT / "compose.yaml").read_text())) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_of_this_image_and_may_write_nothing_but_its_volume(service: str) -> None:
    has = SERVICES[service]
    assert has["build"] == {"context": ".", "dockerfile": "Containerfile"}
    assert has["read_only"] is True
    assert has["cap_drop"] == ["ALL"]
    check_command(has["command"])


def test_ports_of_the_services_are_those_of_the_commands_and_closed_to_others() -> None:
    own = {"platform": [default("serve", "port"), METRICS_PORT]}
    own |= {service: [default(SERVICES[service]["command"][0], "port")] for service in ("pim", "inbox")}
    assert {name: service["ports"] for name, service in SERVICES.items()} == {
        name: [f"127.0.0.1:{port}:{port}" for port in ports] for name, ports in own.items()
    }


def test_only_the_platform_runs_unless_the_sandbox_is_asked_for() -> None:
    assert [name for name, has in SERVICES.items() if "profiles" not in has] == ["platform"]
    assert {profile for has in SERVICES.values() for profile in has.get("profiles", [])} == {
        SANDBOX["COMPOSE_PROFILES"]
    }
    assert SANDBOX["SETTINGS_FILE"] == "deploy/sandbox.env"
    (file,) = SERVICES["platform"]["env_file"]
    assert file == {"path": "${SETTINGS_FILE:-aep.env}", "required": False}
    assert "aep.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_settings_of_the_sandbox_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not options.unknown_variables(SANDBOX)
    for name, value in SANDBOX.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.dev
    assert settings.public_url == f"http://127.0.0.1:{default('serve', 'port')}"
    assert len(settings.allow_networks) == 3


def test_the_volume_is_where_the_data_are() -> None:
    (volume,) = SERVICES["platform"]["volumes"]
    assert volume == f"data:{last('VOLUME')}"
    assert set(COMPOSE["volumes"]) == {"data"}


def test_the_page_names_the_files_and_the_secret_of_the_inbox() -> None:
    assert "deploy/sandbox.env" in PAGE
    assert SERVICES["inbox"]["command"][-1] in PAGE
    assert last("USER").partition(":")[0] in PAGE


# With an engine


def engine() -> str:
    """Returns podman, docker or buildah; skips the test where none works."""
    for name in ("podman", "docker", "buildah"):
        if (found := shutil.which(name)) and subprocess.run(
            [found, "info"], capture_output=True, check=False
        ).returncode == 0:
            return found
    pytest.skip("podman, docker or buildah is not installed, or does not work here")


def compose() -> list[str]:
    """Returns the command of docker compose or podman-compose; skips the test where neither is."""
    for tool, probe in ((["docker", "compose"], ["version"]), (["podman-compose"], ["config", "--help"])):
        probed = shutil.which(tool[0]) and subprocess.run([*tool, *probe], capture_output=True, check=False)
        if probed and probed.returncode == 0:
            return tool
    pytest.skip("docker compose, or a podman-compose that has the command config, is not installed")


def test_compose_takes_its_file() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SANDBOX}
    read = subprocess.run(
        [*compose(), "--env-file", "deploy/sandbox.env", "config"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    assert set(yaml.safe_load(read.stdout)["services"]) == set(SERVICES)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_an_engine_builds_it() -> None:
    program = engine()
    is_buildah = program.endswith("/buildah")
    base = os.environ.get("AEP_TEST_BASE_IMAGE") or re.findall(r"^ARG BASE=(.*)$", LINES, re.MULTILINE)[0]
    look = ["inspect", "--type", "image"] if is_buildah else ["image", "inspect"]
    if subprocess.run([program, *look, base], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"the image {base} is not here: pull it, or name one with Python in AEP_TEST_BASE_IMAGE")
    tag = f"aep-test-{uuid.uuid4().hex[:8]}"
    form = [] if program.endswith("/docker") else ["--format", "docker"]
    options = ["--build-arg", f"BASE={base}", "--file", "Containerfile", "--tag", tag]
    built = subprocess.run(
        [program, "build", *form, *options, "."],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    subprocess.run([program, "rmi", tag], capture_output=True, check=False)
    assert built.returncode == 0, built.stdout  # its last check, before it is an image, is `aep --version`
