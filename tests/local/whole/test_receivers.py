"""The receivers that `docs/for-app-developers.md` shows, as processes, where their language is installed.

And the way from a checkout to the first delivery in one of them.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from support import processes
from support.components import required
from support.processes import Child, signature, until
from support.terminal import terminals

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "for-app-developers.md"
SECRET = "0123456789abcdef"
NEXT = "fedcba9876543210"
PRIMARY, SECONDARY = "X-AKENEO-SIGNATURE-PRIMARY", "X-AKENEO-SIGNATURE-SECONDARY"
BUILD_SECONDS = 600.0


def program(language: str) -> str:
    """The receiver in the language, as the page has it."""
    programs = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    [found] = [each for each in programs if "SIGNING_SECRET" in each]
    return found


def python(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-c", program("python")]


def node(folder: Path, port: int) -> list[str]:
    return [required("node"), "-e", program("javascript")]


def php(folder: Path, port: int) -> list[str]:
    file = folder / "receiver.php"
    command = [required("php"), "-q", "-S", f"127.0.0.1:{port}", str(file)]
    file.write_text(program("php"))
    return command


def go(folder: Path, port: int) -> list[str]:
    file, built, output = folder / "receiver.go", folder / "receiver", folder / "build"
    build = [required("go"), "build", "-o", str(built), str(file)]
    file.write_text(program("go"))
    variables = processes.environment({"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off"})
    with Child("go build", build, stdout=output, stderr=output, environment=variables) as building:
        assert building.wait(BUILD_SECONDS) == 0, output.read_text()
    return [str(built)]


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    folder: Path, receiver: Callable[[Path, int], list[str]], **settings: str
) -> Iterator[tuple[Child, str]]:
    """Runs the receiver; yields it with its URL."""
    port = processes.free_port()
    command = receiver(folder, port)
    variables = processes.environment(
        {"SIGNING_SECRET": SECRET, "PORT": str(port), "TMPDIR": str(folder), **settings}
    )
    out, err = folder / "out", folder / "err"
    with Child("receiver", command, stdout=out, stderr=err, environment=variables) as child:
        until(lambda: is_listening(port) or child.status is not None, "the receiver listens")
        yield child, f"http://127.0.0.1:{port}/events?shop=1"


def body_of(event_id: str) -> bytes:
    event = {"id": event_id, "type": "com.akeneo.pim.v1.product.updated", "data": {"name": "Leuchte für 5 €"}}
    return orjson.dumps(event, option=orjson.OPT_INDENT_2)


def posted(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    return processes.http().post(url, data=body, headers=encoded, timeout=60).status_code


@pytest.mark.parametrize(
    "receiver",
    [python, node, php, pytest.param(go, marks=[pytest.mark.full, pytest.mark.timeout(BUILD_SECONDS)])],
    ids=lambda receiver: receiver.__name__,
)
def test_a_receiver_of_the_page(tmp_path: Path, receiver: Callable[[Path, int], list[str]]) -> None:
    taken, refused = body_of("1"), body_of("2")
    with running(tmp_path, receiver, NEXT_SIGNING_SECRET=NEXT) as (child, url):
        for headers in (
            {},
            {PRIMARY: ""},
            {PRIMARY: "é"},
            {PRIMARY: signature("another secret of 16", refused)},
            {PRIMARY: signature(SECRET, taken)},
            {SECONDARY: signature(SECRET, refused)[:-1]},
        ):
            assert posted(url, refused, headers) == 401, child.stderr()
        assert posted(url, taken, {PRIMARY: signature(SECRET, taken)}) == 200, child.stderr()
        again = {PRIMARY: signature("not known here..", taken), SECONDARY: signature(NEXT, taken)}
        assert posted(url, taken, again) == 200, child.stderr()
        other = body_of("3")
        assert posted(url, other, {PRIMARY: signature(NEXT, other)}) == 200, child.stderr()
        lines = ["com.akeneo.pim.v1.product.updated 1", "com.akeneo.pim.v1.product.updated 3"]
        until(lambda: child.stdout().splitlines() == lines, f"the work of each event once: {child.stdout()}")


def test_without_a_next_secret_only_one_is_taken(tmp_path: Path) -> None:
    with running(tmp_path, python) as (child, url):
        body = body_of("1")
        assert posted(url, body, {PRIMARY: signature("", body)}) == 401, child.stderr()
        assert posted(url, body, {PRIMARY: signature(SECRET, body)}) == 200, child.stderr()


@pytest.fixture(params=["this checkout", "a fresh clone"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "this checkout":
        return ROOT
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("git is not installed, or this is no clone")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    return clone


@pytest.mark.full
def test_from_a_checkout_to_the_first_delivery_takes_two_commands(checkout: Path, tmp_path: Path) -> None:
    folders = {"XDG_RUNTIME_DIR": tmp_path / "runtime", "TMPDIR": tmp_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    settings = {name: str(folder) for name, folder in folders.items()}
    settings |= {"PYTHONPATH": f"{checkout / 'functions'}:{checkout / 'local'}"}
    (tmp_path / "app").mkdir()
    with running(tmp_path / "app", python) as (app, url), terminals() as opened:
        started = time.monotonic()
        dev = opened.run(tmp_path, "dev", "--forward-to", url, "--secret", SECRET, settings=settings)
        dev.shows("Ready.")
        event_type = "com.akeneo.pim.v1.product.updated"
        trigger = opened.run(tmp_path, "trigger", event_type, settings=settings)
        until(app.stdout, "a delivery in the app")
        print(f"{len(opened.opened)} commands, {time.monotonic() - started:.1f} s")
        trigger.shows(f"delivered to {url}")
        assert trigger.wait() == 0
        dev.shows(" 200 ")
        assert app.stdout().startswith(f"{event_type} ")
        assert len(opened.opened) == 2
        assert opened.too_wide() == []
        assert dev.interrupt() == 0
