"""`aep dev` and `aep trigger` as processes: an app of one's own, from a shell to its first event."""

import contextlib
import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.errors import SetupError
from aep.sandbox import dev_session
from aep.sandbox.dev_session import DevSession
from support import processes
from support.aep_here import run
from support.processes import Child, until
from support.servers import Certificates
from support.terminal import terminals

TYPE = "com.akeneo.pim.v1.product.updated"


class App:
    """The app that somebody writes; it answers those of `first` once each, then `status`."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.status = 200
        self.first: list[int] = []
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                app.requests.append((self.path, dict(self.headers), body))
                self.send_response(app.first.pop(0) if app.first else app.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base names it
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_address[1]


@contextlib.contextmanager
def app_at(port: int, tls: ssl.SSLContext | None = None) -> Iterator[App]:
    app = App(port, tls)
    thread = threading.Thread(target=app.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield app
    finally:
        app.server.shutdown()
        app.server.server_close()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """A runtime folder and a folder of temporary files of the test's own."""
    folders = {"XDG_RUNTIME_DIR": tmp_path / "runtime", "TMPDIR": tmp_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    return {name: str(folder) for name, folder in folders.items()} | {"NO_COLOR": "1", "TZ": "UTC"}


def ended(folder: Path, *arguments: str, settings: Mapping[str, str]) -> tuple[int, str, str]:
    """The exit status of a command, and what it wrote."""
    with processes.command(folder, *arguments, settings=settings) as child:
        return child.wait(60), child.stdout(), child.stderr()


def copied(screen: str) -> dict[str, str]:
    return dict(re.findall(r"^export (\w+)=(\S+)$", screen, re.MULTILINE))


def is_shown(child: Child, text: str) -> None:
    until(lambda: child.status is not None or text in child.stdout(), f"printed: {text}")
    assert text in child.stdout(), child.stderr()


def test_from_a_shell_to_the_first_event(tmp_path: Path, settings: dict[str, str]) -> None:
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}/events?shop=1"
    trigger = ("trigger", TYPE)
    with terminals() as opened:
        dev = opened.run(tmp_path, "dev", "--forward-to", url, settings=settings)
        dev.shows(f"Nothing listens at {url} yet")
        status, _, said = ended(tmp_path, *trigger, settings=settings)
        assert (status, said.count("\n")) == (1, 1)
        assert "waits for your app" in said
        with app_at(port) as app:
            values = copied(dev.shows(f"aep trigger {TYPE}"))

            data = '{"product": {"uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"}}'
            (tmp_path / "data.json").write_text(data)
            given = (
                "--data",
                str(tmp_path / "data.json"),
                "--set",
                "product.identifier=SKU-1",
                "--user",
                "me",
            )
            status, said, _ = ended(tmp_path, *trigger, *given, settings=settings)
            assert (status, said.splitlines()[-1]) == (0, f"delivered to {url}")
            [(path, headers, body)] = app.requests
            event = orjson.loads(body)
            assert path == "/events?shop=1"
            assert event["data"] == {
                "product": {"uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11", "identifier": "SKU-1"},
                "author": {"identifier": "me", "type": "user"},
            }
            assert f"id {event['id']}\n" in said
            signature = processes.signature(values["SIGNING_SECRET"], body)
            assert headers["X-AKENEO-SIGNATURE-PRIMARY"] == signature
            dev.shows("product.updated 3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11 200")

            client = processes.Client(
                values["AEP_URL"], values["AEP_PIM_URL"], values["AEP_PIM_TOKEN"], values["AEP_PIM_CLIENT_ID"]
            )
            assert len(client.call("GET", "/subscribers", expect=200)) == 1

            app.first = [500]
            ended(tmp_path, *trigger, settings=settings)
            dev.shows("Your app answered 500: the platform tries the event again at ")
            dev.shows("Your app takes events again.")

            app.status = 404
            status, said, _ = ended(tmp_path, *trigger, settings=settings)
            assert status == 1
            assert "`aep trigger` resumes it" in said
            dev.shows("Your app answered 404: for the platform the endpoint is gone")
            app.status = 200
            status, said, _ = ended(tmp_path, *trigger, "--count", "3", settings=settings)
            assert (status, said.splitlines()[-1]) == (0, f"3 events: delivered to {url}")
        assert processes.children(dev.pid) == []
        assert dev.interrupt() == 0
        assert opened.too_wide() == []
        assert "Traceback" not in dev.screen
    assert [each for name in ("runtime", "temporary") for each in (tmp_path / name).iterdir()] == []


def test_an_app_with_a_private_authority(tmp_path: Path, settings: dict[str, str]) -> None:
    certificates = Certificates()
    authority = tmp_path / "ca.pem"
    certificates.authority.cert_pem.write_to_path(str(authority))
    with app_at(0, certificates.good()) as app:
        url = f"https://127.0.0.1:{app.port}/"
        arguments = ("dev", "--forward-to", url, "--ca", str(authority))
        with processes.command(tmp_path, *arguments, settings=settings) as dev:
            is_shown(dev, "Ready.")
            status, said, _ = ended(tmp_path, "trigger", TYPE, settings=settings)
            assert (status, said.splitlines()[-1]) == (0, f"delivered to {url}")
            assert len(app.requests) == 1


@pytest.mark.full
def test_the_inbox_takes_what_no_app_does(tmp_path: Path, settings: dict[str, str]) -> None:
    arguments = ("dev", "--events", TYPE, "--filter", 'user = "me"', "--secret", "0123456789abcdef")
    with processes.command(tmp_path, *arguments, settings=settings) as dev:
        is_shown(dev, "Ready.")
        assert copied(dev.stdout())["SIGNING_SECRET"] == "0123456789abcdef"
        assert ended(tmp_path, "trigger", TYPE, "--user", "me", settings=settings)[0] == 0
        status, said, _ = ended(tmp_path, "trigger", TYPE, "--user", "you", settings=settings)
        assert status == 1
        assert "nobody gets it: " in said
        status, _, said = ended(tmp_path, "dev", settings=settings)
        assert (status, said) == (1, "aep: an `aep dev` of yours runs already: end it with Ctrl-C first\n")


def test_a_delivery_is_shown_whole_and_every_second_event_is_lost(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with processes.command(tmp_path, "dev", "-v", "--lose", "2", settings=settings) as dev:
        is_shown(dev, "Ready.")
        data = tmp_path / "data.json"
        data.write_text('{"product": {"uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"}}')
        more = ("--data", str(data), "--user", "me")
        status, said, _ = ended(tmp_path, "trigger", TYPE, *more, settings=settings)
        assert (status, said.splitlines()[-1].partition(" http")[0]) == (0, "delivered to")
        is_shown(dev, "    < 200")
        assert "    > X-AKENEO-SIGNATURE-PRIMARY: " in dev.stdout()
        assert '    >       "uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"' in dev.stdout()
        status, said, _ = ended(tmp_path, "trigger", TYPE, "--count", "3", settings=settings)
        assert status == 1
        assert "1 event: delivered to http://" in said
        assert said.endswith("2 events: lost on the way to the platform, as --lose 2 asks for\n")


def test_nothing_of_a_dev_that_was_killed_goes_on(tmp_path: Path, settings: dict[str, str]) -> None:
    with processes.command(tmp_path, "dev", settings=settings) as dev:
        is_shown(dev, "Ready.")
        platform = copied(dev.stdout())["AEP_URL"]
        assert processes.http().get(f"{platform}/health", timeout=10).status_code == 200
        assert processes.children(dev.pid) == []
        dev.kill_group()
        assert (tmp_path / "runtime" / dev_session.NAME).exists()
        with pytest.raises(processes.requests.ConnectionError):
            processes.http().get(f"{platform}/health", timeout=10)
        status, _, said = ended(tmp_path, "trigger", TYPE, settings=settings)
        assert (status, said) == (1, "aep: no `aep dev` of yours runs here: start it in another terminal\n")


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, settings: dict[str, str]) -> None:
    with app_at(0) as app:
        status, out, said = ended(tmp_path, "dev", "--port", str(app.port), settings=settings)
    assert (status, out, said.count("\n")) == (1, "", 1)
    assert said.startswith(f"aep: cannot listen on 127.0.0.1:{app.port}: the port is taken by ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dev", "--forward-to", "ftp://app"), "http://127.0.0.1:3000/events"),
        (("dev", "--forward-to", "http://app", "--ca", "ca.pem"), "begins with https://"),
        (
            ("dev", "--forward-to", "https://app", "--ca", "no/such/file"),
            "file or directory; look at the path",
        ),
        (("dev", "--forward-to", "https://app", "--ca", __file__), "in PEM"),
        (("dev", "--events", "product.renamed"), "did you mean"),
        (("dev", "--filter", "user ="), "--filter"),
        (("dev", "--secret", "short"), "16 to 256"),
        (("dev", "--lose", "0"), "--lose 0: must be at least 1"),
        (("trigger", "product.renamed"), "did you mean"),
        (("trigger", TYPE, "--set", "product"), "PATH=VALUE"),
        (("trigger", TYPE, "--set", "product.uuid.x=1"), "is no object"),
        (("trigger", TYPE, "--set", "product.uuid=1"), "data.product.uuid: must be a UUID; `aep events "),
        (("trigger", TYPE, "--data", __file__), "JSON object"),
    ],
)
def test_wrong_usage_is_one_line(settings: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    wrong = run(*arguments, settings=settings)
    assert (wrong.status, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert said in wrong.err


SESSION = DevSession(
    "http://127.0.0.1:1",
    "http://127.0.0.1:2",
    "key",
    "/subscribers/a/subscriptions/b",
    "/",
    "/no/such/folder",
)


def test_a_session_is_found_while_it_is_held(tmp_path: Path) -> None:
    where = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with dev_session.held(where) as write:
        with pytest.raises(SetupError, match="not ready"):
            dev_session.running(where)
        (tmp_path / dev_session.NAME).write_text("{}")
        with pytest.raises(SetupError, match="of another version"):
            dev_session.running(where)
        (tmp_path / dev_session.NAME).write_text("")
        write(SESSION)
        assert dev_session.running(where) == SESSION
        assert (tmp_path / dev_session.NAME).stat().st_mode & 0o777 == 0o600
        assert [dev_session.count(number, where) for number in (2, 1)] == [0, 2]
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_killed_dev_counts_for_nothing_and_its_data_go(tmp_path: Path) -> None:
    left, other = tmp_path / "aep-dev-left", tmp_path / "other"
    where = {"XDG_RUNTIME_DIR": str(tmp_path)}
    for folder in (left, other):
        folder.mkdir()
        (tmp_path / dev_session.NAME).write_bytes(orjson.dumps(replace(SESSION, folder=str(folder))))
        with pytest.raises(SetupError, match="no `aep dev`"):
            dev_session.running(where)
        with dev_session.held(where) as write:
            write(SESSION)
            assert dev_session.running(where) == SESSION
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("left", [b"{", b"[]", b'{"folder": 1}'])
def test_a_file_that_is_no_session_is_written_anew(tmp_path: Path, left: bytes) -> None:
    (tmp_path / dev_session.NAME).write_bytes(left)
    where = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with dev_session.held(where) as write:
        write(SESSION)
        assert dev_session.running(where) == SESSION


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_session.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"aep-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(SetupError, match="mode 0700"):
        dev_session.running({})
