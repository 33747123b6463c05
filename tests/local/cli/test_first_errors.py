"""The faults that a first user meets: each time one line that names the cause, and what to do about it.

An app that is not up is waited for by `aep dev`, whose own tests are in `test_dev.py`.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from aep.sandbox import dev_session
from support import one_pim
from support.aep_here import run
from support.processes import Child, SimulatedPim, command, free_port
from support.records import UPDATED

MISSPELT = "AEP_RETRY_DELAY"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Child, SimulatedPim]]:
    folder = tmp_path_factory.mktemp("first-errors")
    with one_pim.serve_simulated(folder, settings={MISSPELT: "1"}) as (serve, sim):
        yield folder, serve, sim


def line_of(*arguments: str, status: int, **settings: str) -> str:
    """The one line that the command wrote to standard error."""
    ended = run(*arguments, settings=settings)
    assert ended.status == status, ended
    assert ended.err.count("\n") == 1, ended.err
    return ended.err


def test_a_port_that_is_taken_says_by_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = line_of("sim", "--port", str(port), status=1)
    assert line.startswith(f"aep: cannot listen on 127.0.0.1:{port}: the port is taken by ")
    assert f" (process {os.getpid()})" in line
    assert line.endswith(": end it, or choose another --port; 0 takes a free one\n")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine. Choose another --host, such as 127.0.0.1"),
        ("a..b", "no address is known for a..b. Choose another --host, such as 127.0.0.1"),
    ],
)
def test_a_host_that_is_not_here(host: str, said: str) -> None:
    assert said in line_of("sim", "--port", "0", "--host", host, status=1)


def test_a_folder_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    data = tmp_path / "data"
    line = line_of("pims", "add", "https://pim.example.com", "--data", str(data), status=1)
    assert line == f"aep: Permission denied: {data}; run this as a user who may, or change its rights\n"


def test_a_token_that_is_wrong(platform: tuple[Path, Child, SimulatedPim]) -> None:
    _, serve, sim = platform
    where = ("--url", serve.url, "--pim-url", sim.url, "--client-id", sim.client_id)
    line = line_of("test", "0199", *where, "--token", "wrong", status=1)
    assert "X-PIM-TOKEN is not valid in this PIM. Give --token one that this PIM has issued" in line


def test_an_ingest_key_that_is_wrong(platform: tuple[Path, Child, SimulatedPim]) -> None:
    _, serve, _ = platform
    ended = run("sim", "emit", UPDATED, "--to", serve.url, "--key", "wrong")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "answered 401: the bearer token is not the ingest key of any PIM here. Check --key" in ended.err


def test_a_pim_that_is_not_known(platform: tuple[Path, Child, SimulatedPim]) -> None:
    _, serve, _ = platform
    where = ("--url", serve.url, "--pim-url", "https://other.example.com", "--client-id", "erp")
    line = line_of("test", "0199", *where, "--token", "any", status=1)
    assert "Check --pim-url, or add the PIM with `aep pims add URL`" in line


def test_a_second_server_on_the_folder(platform: tuple[Path, Child, SimulatedPim]) -> None:
    folder, _, _ = platform
    data = folder / "data"
    with command(folder, "serve", "--data", str(data), "--port", "0") as second:
        assert second.wait() == 1
    assert second.stderr() == (
        f"aep: another process already runs the platform on {data}; stop it, or choose another --data\n"
    )


def test_a_variable_that_is_misspelt(platform: tuple[Path, Child, SimulatedPim]) -> None:
    _, serve, _ = platform
    [line] = [line for line in serve.stderr().splitlines() if MISSPELT in line]
    found = orjson.loads(line)
    assert (found["variable"], found["nearest"]) == (MISSPELT, f"{MISSPELT}S")


def test_a_platform_that_does_not_run() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    where = ("--url", url, "--pim-url", "https://pim.example.com", "--client-id", "erp", "--token", "any")
    line = line_of("test", "0199", *where, status=1)
    assert "connection refused): check --url or AEP_URL, and whether it runs" in line
    emit = ("sim", "emit", UPDATED, "--to", url, "--key", "k")
    assert "Is the platform running (`aep serve`)" in line_of(*emit, status=1)


def test_no_dev_for_a_trigger(tmp_path: Path) -> None:
    settings = {"XDG_RUNTIME_DIR": str(tmp_path)}
    line = line_of("trigger", UPDATED, status=1, **settings)
    assert line == "aep: no `aep dev` of yours runs here: start it in another terminal\n"
    assert not (tmp_path / dev_session.NAME).exists()


def test_a_key_that_is_missing(tmp_path: Path) -> None:
    assert "give --key or set AEP_INGEST_KEY" in line_of("sim", "emit", UPDATED, status=2)
    data = tmp_path / "data"
    assert run("pims", "add", "https://pim.example.com", "--data", str(data)).status == 0
    (data / "secrets.key").unlink()
    line = line_of("pims", "list", "--data", str(data), status=1)
    assert f"{data}/secrets.key is missing" in line
    assert "put it back, or set AEP_SECRETS_KEY" in line
    assert "openssl rand -base64 32" in line_of(
        "pims", "list", "--data", str(data), status=2, AEP_SECRETS_KEY="x"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("pims", "list", "--pims", "{file}"),
        ("trigger", UPDATED, "--data", "{file}"),
        ("filter", "test", 'user = "julia"', "--event", "{file}"),
        ("events", "--event-types", "{file}"),
    ],
    ids=lambda words: words[0],
)
def test_json_that_is_wrong(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text('[{"url": "https://pim.example.com",}]')
    ended = run(*(each.format(file=file) for each in arguments))
    assert ended.status in (1, 2)
    assert ended.err.count("\n") == 1
    assert "is not JSON at line 1, column 35: a comma is too many there" in ended.err
