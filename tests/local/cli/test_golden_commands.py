"""The output of each command at 80, 120 and 200 columns; golden texts, in golden/commands/.

After a wanted change: remove the file, run the test, which writes it and fails, and read what it wrote.
Ids, times, sizes and the name of the folder are replaced by others of the same length.
"""

import asyncio
import base64
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
import typer

from aep.cli import console, main, management, replays, sim, trigger
from aep.cli import sandbox as sandbox_commands
from aep.doctor import apps, certificates, clocks, machine, network, program
from aep.doctor.findings import missing, ok
from aep.sandbox import dev, emitting, triggers
from aep.sandbox.dev_session import DevSession
from aep.sandbox.emitting import Emitted
from aep.sandbox.inbox import Behaviour, signatures
from event_platform.domain.tenants import Tenant
from support.clock import START
from support.records import PIM, UPDATED
from support.shown_commands import KEY, OLD_PIM, Here, answer_of_the_api, cut_ids, make_folder, shown_of
from support.shown_records import id_of

GOLDEN = Path(__file__).parent / "golden" / "commands"
WIDTHS = (80, 120, 200)
NEW_KEY = base64.b64encode(bytes([2]) * 32).decode()
SECRET = "0123456789abcdef"
TO_COPY = ("aep ", "curl ", "export ", "pulumi ", "ssh ", "{", '"', "}")
"""The beginnings of lines that are not broken, as somebody copies them."""
EXCUSED = {
    "demo": "it shows its progress live, in seconds of its own: test_demo.py",
    "demo-google": "the same, on Google's emulators",
    "bench": "it prints the benchmark's table of measures, in a checkout: test_bench.py",
    "serve": "it prints lines of the log, and one that many tests wait for: test_log_text.py, test_serve.py",
}
"""Commands without a golden text, and why."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    return make_folder(tmp_path_factory.mktemp("made"))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def here(made: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Here]]:
    """Returns the commands at a width. What others would be asked is answered by the fixture."""
    monkeypatch.setattr(management.App, "_call", answer_of_the_api)
    with contextlib.ExitStack() as stack:

        def at(width: int) -> Here:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-", dir="/tmp"))
            numbers = itertools.count()
            monkeypatch.setattr(
                "secrets.token_urlsafe",
                lambda size=32: f"made-up-{next(numbers)}".ljust((size * 4 + 2) // 3, "x"),
            )
            return Here(made, Path(folder), width)

        yield at


# The commands


def do(*words: str, typed: str = "", status: int = 0, **settings: str) -> Callable[[Here], str]:
    """Runs a command; {data}, {folder}, {subscription} and {event} in its words are those of the folder."""

    def shown(here: Here) -> str:
        given = {name: getattr(here, name) for name in ("data", "folder", "subscription", "event")}
        said = [word.format(**given) for word in words]
        environment = {name: value.format(**given) for name, value in settings.items()}
        return shown_of(here.run(*said, typed=typed, **environment), status)

    return shown


def in_turn(*steps: Callable[[Here], str]) -> Callable[[Here], str]:
    return lambda here: "\n".join(step(here) for step in steps)


def an_event_file(here: Here) -> str:
    event = {
        "type": UPDATED,
        "data": {"product": {"uuid": id_of(7)}, "author": {"identifier": "julia", "type": "user"}},
    }
    (here.folder / "event.json").write_bytes(orjson.dumps(event))
    return ""


def doctor(here: Here) -> str:
    """The command with findings of every kind, some of which the machine decides otherwise."""
    tenants = [Tenant(url=PIM, auth="probe"), Tenant(url=OLD_PIM, auth="platform-key")]
    found = [
        ok("aep", "1.2.3, commit 0123456"),
        program.sqlite((3, 40, 1)),
        program.open_files(1024, 4096),
        *program.unknown_settings({"AEP_RETRY_DELAY": "AEP_RETRY_DELAYS"}),
        *asyncio.run(apps.checks(tenants, machine.Credentials(), mock.Mock())),
        asyncio.run(certificates.next_end(None, [], None, START)),
        asyncio.run(network.mail(None)),
        clocks.clock(START, START.replace(hour=13), 0.0, ""),
        clocks.clock(START, None, 0.0, "", pims=[clocks.Compared(PIM, -42)]),
        clocks.clock(START, None, 0.0, "", kernel=clocks.KernelClock(False, 16.0)),
        missing("emulator", "gcloud components install pubsub-emulator; needs Java"),
    ]
    with mock.patch.object(machine, "everything", return_value=found):
        return shown_of(here.run("doctor"), 0)


class OfDev(dev._Dev):
    """An `aep dev` whose platform has delivered twice: the app answered 500, then 200."""

    @contextlib.asynccontextmanager
    async def _platform(self, folder: Path, pim: str) -> AsyncIterator[str]:
        yield "http://127.0.0.1:34567"

    async def _subscribe(self, api: object, receiver: str) -> str:
        entries: list[Mapping[str, Any]] = []
        for number, (status, outcome) in enumerate(((500, "retryable"), (200, "delivered")), 1):
            entry: dict[str, Any] = {
                "event": "delivery.attempted",
                "timestamp": "2026-01-31T12:00:00Z",
                "event_type": UPDATED,
                "event_id": id_of(201),
                "subscription_id": id_of(1),
                "outcome": outcome,
                "status": status,
                "reason": None if status == 200 else "destination_failure",
                "milliseconds": 12.0,
                "attempt": number,
            }
            entry |= {"retry_at": "2026-01-31T12:00:02Z"} if status == 500 else {}
            entries.append(entry)
        self._log = _each(entries)  # pyright: ignore[reportAttributeAccessIssue] - which ends
        return "/subscribers/1/subscriptions/1"


async def _each(entries: Iterable[Mapping[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
    for entry in entries:
        yield entry


def of_dev(here: Here) -> str:
    @contextlib.asynccontextmanager
    async def running(*_: object, **__: object) -> AsyncIterator[str]:
        yield "http://127.0.0.1:34568"

    async def api(*_: object) -> Any:
        return mock.Mock(identity={"X-PIM-URL": PIM, "X-PIM-CLIENT-ID": "sim", "X-PIM-TOKEN": "t" * 43})

    with (
        mock.patch.object(dev, "_Dev", OfDev),
        mock.patch.object(dev.server, "running", running),
        mock.patch.object(dev, "management_api", api),
        mock.patch.object(dev, "_takes_connections", side_effect=[False, True]),
        mock.patch.object(dev, "POLL_SECONDS", 0.0),
    ):
        words = ("dev", "--forward-to", "http://127.0.0.1:3000/events")
        return shown_of(here.run(*words, XDG_RUNTIME_DIR=str(here.folder)), 0)


def of_trigger(here: Here) -> str:
    session = DevSession("http://p", "http://pim", "key", "/s", "http://127.0.0.1:3000/events", "/f")

    class Api:
        async def call(self, method: str, path: str, *_: object) -> Any:
            if method == "POST":
                return {}
            if path == "/s":
                return {"id": id_of(1), "status": "suspended"}
            attempt = {"status": 503, "reason": "destination_failure"}
            found = {"subscription_id": id_of(1), "result": "matched", "outcome": "waiting"}
            return {"items": [{"subscriptions": [found | {"attempts": [attempt]}]}]}

    async def api(*_: object) -> Api:
        return Api()

    async def emit(*_: object, **__: object) -> Emitted:
        return Emitted(accepted=1)

    with (
        mock.patch.object(trigger.dev_session, "running", return_value=session),
        mock.patch.object(triggers, "management_api", api),
        mock.patch.object(emitting, "emit", emit),
    ):
        return shown_of(here.run("trigger", "product.updated"), 1)


class Platform:
    """A platform that runs, as `control` finds it."""

    def call(self, method: str, path: Sequence[str], *_: object) -> Any:
        return {"url": "http://127.0.0.1:8090/console/enter?code=" + "c" * 43}


@contextlib.contextmanager
def a_platform(folder: Path) -> Iterator[Platform]:
    yield Platform()


def of_console(here: Here) -> str:
    with (
        mock.patch.object(console, "control", a_platform),
        mock.patch.object(console.socket, "gethostname", return_value="events.example.com"),
    ):
        at_home = shown_of(here.run("console"), 0)
        by_ssh = shown_of(here.run("console", SSH_CONNECTION="1", USER="operator"), 0)
    return f"{at_home}\n{by_ssh}"


def of_replay(here: Here) -> str:
    with mock.patch.object(replays, "_follow"):
        return do("replay", "{subscription}", "--from", "2026-01-31T12:00:00Z")(here)


def of_sim(here: Here) -> str:
    def serve(*_: object, ready: Callable[[str], None], **__: object) -> None:
        ready("http://127.0.0.1:8081")

    with mock.patch.object(sim, "serve_app", serve):
        return shown_of(here.run("sim", "--callback-url", "http://127.0.0.1:3000/callback"), 0)


def of_emit(here: Here) -> str:
    async def emit(*_: object, **__: object) -> Emitted:
        return Emitted(3, 1, 0, error="http://127.0.0.1:8080/ingest answered 401: the bearer token is not it")

    with mock.patch.object(emitting, "emit", emit):
        return shown_of(here.run("sim", "emit", "product.updated", "--count", "4"), 1)


def of_inbox(here: Here) -> str:
    body = orjson.dumps({"id": id_of(201), "type": UPDATED, "data": {"product": {"uuid": id_of(7)}}})

    def serve(app: Any, *_: object) -> None:
        for secret in (SECRET, "another secret of 16"):
            signature = signatures.sign(body, secret)
            headers = {"content-type": "application/json", signatures.PRIMARY_HEADER.lower(): signature}
            app.state.inbox.take("/events?shop=1", Behaviour.OK, headers, body)

    with mock.patch.object(sandbox_commands, "serve_app", serve):
        return shown_of(here.run("inbox", "--secret", SECRET, "-v"), 0)


FEED = (
    "pims",
    "feed",
    PIM,
    "--client-id",
    "2_1x8s0r6hgkkkc0kos8",
    "--username",
    "feed_4711",
    "--secret",
    "-",
)
SHOP = "https://shop.example.com"
STORIES: Mapping[str, Callable[[Here], str]] = {
    "dev": of_dev,
    "trigger": of_trigger,
    "events": do("events", "product.updated"),  # test_layouts.py has the list
    "pims add": in_turn(
        do("pims", "add", SHOP),
        do("pims", "add", SHOP, "--pims", "{folder}/pims.json"),
        do("pims", "add", SHOP, "--events-api-secret", "-", typed=f"{SECRET}\n"),
    ),
    "pims client": in_turn(
        do("pims", "client", OLD_PIM, "2_1x8s0r6hgkkkc0kos8w4wkgkk8ggwc8w4o4c", "--username", "erp_4711"),
        do("pims", "client", OLD_PIM, "erp", "--key"),
        do("pims", "client", OLD_PIM, "erp"),
    ),
    "pims clients": in_turn(do("pims", "clients", OLD_PIM), do("pims", "clients", PIM)),
    "pims revoke": do("pims", "revoke", OLD_PIM, "erp"),
    "pims feed": in_turn(
        do("pims", "feed", PIM, status=2), do(*FEED, typed="secret\npassword\n"), do("pims", "feed", PIM)
    ),
    "pims list": do("pims", "list"),
    "pims remove": in_turn(do("pims", "remove", OLD_PIM), do("pims", "remove", OLD_PIM, status=2)),
    "doctor": doctor,
    "secrets rotate": do("secrets", "rotate", AEP_SECRETS_KEY=f"{NEW_KEY},{KEY}"),
    "status": do("status"),
    "console": of_console,
    "logs": do("logs"),
    "trace": do("trace", "{event}"),
    "subscriptions list": in_turn(do("subscriptions", "list"), do("subscriptions", "list", "--operator")),
    "subscriptions show": do("subscriptions", "show", id_of(1)),
    "subscriptions create": do(
        "subscriptions", "create", id_of(11), "--endpoint", "https://x.example", "--events", "product.updated"
    ),
    "subscriptions set": do("subscriptions", "set", id_of(1), "--catch-up"),
    "subscriptions suspend": do("subscriptions", "suspend", id_of(1)),
    "subscriptions resume": do("subscriptions", "resume", id_of(1)),
    "subscriptions delete": do("subscriptions", "delete", id_of(1), "--yes"),
    "subscribers list": in_turn(do("subscribers", "list"), do("subscribers", "list", "--operator")),
    "subscribers show": do("subscribers", "show", id_of(11)),
    "subscribers create": do(
        "subscribers", "create", "--name", "ERP", "--email", "a@example.com", "--webhook", "https://x.example"
    ),
    "subscribers set": do("subscribers", "set", id_of(11), "--name", "ERP"),
    "subscribers suspend": in_turn(
        do("subscribers", "suspend", id_of(11)), do("subscribers", "resume", id_of(11))
    ),
    "subscribers resume": do("subscribers", "resume", id_of(11)),
    "subscribers delete": do("subscribers", "delete", id_of(11), "--yes"),
    "replay": of_replay,
    "retry": in_turn(do("retry", "{subscription}"), do("retry", "{subscription}")),
    "dead list": do("dead", "list"),
    "dead replay": in_turn(do("dead", "replay", "--all"), do("dead", "replay", "--all")),
    "dead drop": in_turn(do("dead", "drop", "--all"), do("dead", "list")),
    "test": do("test", id_of(1), status=1),
    "explain": in_turn(an_event_file, do("explain", id_of(1), "--event", "{folder}/event.json", status=1)),
    "filter test": in_turn(
        an_event_file,
        do("filter", "test", 'user = "julia" or user_type = "api"', "--event", "{folder}/event.json"),
        do("filter", "test", "user = ", "--event", "{folder}/event.json", status=2),
    ),
    "inbox": of_inbox,
    "sim": of_sim,
    "sim emit": of_emit,
    "backup": do("backup", "{folder}/b.db"),
    "restore": in_turn(do("backup", "{folder}/b.db"), do("restore", "{folder}/b.db")),
    "export": do("export", "{folder}/moving.json"),
    "import": in_turn(
        do("export", "{folder}/moving.json"), do("import", "{folder}/moving.json", AEP_DATA="{folder}/new")
    ),
}


def names_of(command: Any, *path: str) -> Iterator[str]:
    """The commands that do something, below a group or by themselves."""
    below = getattr(command, "commands", {})
    if not below or (command.invoke_without_command and path):
        yield " ".join(path)
    for name, each in below.items():
        yield from names_of(each, *path, name)


def test_every_command_has_a_golden_text_or_a_reason() -> None:
    commands = set(names_of(typer.main.get_command(main.app_for())))
    assert commands == {*STORIES, *EXCUSED}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {name.replace(" ", "-") for name in STORIES}


@pytest.mark.parametrize("name", STORIES)
def test_a_command_at_each_width(name: str, here: Callable[[int], Here]) -> None:
    found = {width: STORIES[name](here(width)) for width in WIDTHS}
    text = ""
    for width, shown in found.items():
        same = next((before for before in WIDTHS if before < width and found[before] == shown), None)
        text += f"=== {width} columns{f', as at {same}' if same else ''}\n{'' if same else shown}"
        assert cut_ids(shown) == []
        out = [line for part in shown.split("[standard error]") for line in part.splitlines()]
        assert [line for line in out if len(line) > width and is_to_be_broken(line)] == []
    golden = GOLDEN / f"{name.replace(' ', '-')}.txt"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
        pytest.fail(f"wrote {golden}: read it")
    assert text == golden.read_text()


def is_to_be_broken(line: str) -> bool:
    text = line.strip()
    return " " in text and not text.startswith((*TO_COPY, "aep: "))
