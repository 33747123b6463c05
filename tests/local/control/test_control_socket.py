"""The control socket: who may call it, what a kill leaves behind, and what is called on it."""

import asyncio
import io
import os
import socket
import stat
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from aep.control import address, client, server
from aep.control.client import control
from aep.errors import ControlFailed
from aep.store import feeds, opening
from aep.wiring import Platform
from event_platform.domain.errors import Conflict, EventPlatformError, InvalidRequest, NotFound
from event_platform.settings import Settings
from support.aep_here import Ended, run
from support.records import UPDATED

PIM = "https://pim.example.com"
OWNER = {"X-PIM-URL": PIM, "X-PIM-CLIENT-ID": "erp"}
SUBSCRIBER = {"name": "ERP", "contact": {"technical_email": "ops@example.com"}}
SUBSCRIPTION = {
    "events": [UPDATED],
    "type": "https",
    "config": {
        "url": "http://127.0.0.1:8123/hook",
        "secret": {"primary": "primary-secret-of-the-subscription"},
    },
}
OTHER_USER = 4242


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Platform, None]:
    """A platform on the folder, in this process, with its control socket."""
    faults: list[BaseException] = []
    platform = Platform(Settings(dev=True), folder, base_url="http://test", on_fault=faults.append)
    await platform.start()
    try:
        async with server.serving(platform.control_app, folder):
            yield platform
    finally:
        await platform.stop()
    assert faults == []


def call_now(
    folder: Path, method: str = "GET", *path: str, body: Any = None, headers: Mapping[str, str] = OWNER
) -> Any:
    """Returns the platform's answer."""
    with control(folder) as platform:
        assert platform is not None
        return platform.call(method, path or ("subscribers",), body, headers)


async def call(folder: Path, method: str, *path: str, body: Any = None, **how: Any) -> Any:
    """The same from another thread, as a command is another process."""
    return await asyncio.to_thread(call_now, folder, method, *path, body=body, **how)


async def aep(folder: Path, *arguments: str) -> Ended:
    return await asyncio.to_thread(run, *arguments, "--data", str(folder), settings={"AEP_DEV": "1"})


async def subscribed(folder: Path) -> str:
    """The id of a subscription that the operator has made for the client."""
    subscriber = await call(folder, "POST", "subscribers", body=SUBSCRIBER)
    made = await call(folder, "POST", "subscribers", subscriber["id"], "subscriptions", body=SUBSCRIPTION)
    return made["id"]


def is_served(folder: Path) -> bool:
    with control(folder) as platform:
        return platform is not None


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


# The socket


async def test_it_is_the_users_alone_and_goes_with_the_platform(folder: Path) -> None:
    assert not is_served(folder)
    async with running(folder):
        assert stat.S_IMODE((folder / address.SOCKET).stat().st_mode) == 0o600
        assert is_served(folder)
    assert not (folder / address.SOCKET).exists()


async def test_what_a_kill_left_is_no_platform_and_is_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / address.SOCKET))
    assert not is_served(folder)
    async with running(folder):
        assert is_served(folder)


@pytest.mark.provokes("control.not_served")
async def test_a_file_that_is_no_socket_stays_and_commands_do_without(folder: Path) -> None:
    (folder / address.SOCKET).write_text("mine")
    async with running(folder):
        assert (await aep(folder, "pims", "add", PIM)).status == 0
    assert (folder / address.SOCKET).read_text() == "mine"


async def test_a_folder_of_any_depth_has_one(folder: Path) -> None:
    deep = folder / ("d" * 200) / "data"
    async with running(deep):
        assert is_served(deep)
    before = descriptors()
    with address.listening(deep):
        assert is_served(deep)
    assert descriptors() <= before


async def test_a_socket_that_another_platform_made_meanwhile_stays(folder: Path) -> None:
    with address.listening(folder):
        (folder / address.SOCKET).unlink()
        (folder / address.SOCKET).write_text("another's")
    assert (folder / address.SOCKET).exists()


def test_only_our_own_user_and_root_may_connect() -> None:
    class Peer:
        def __init__(self, user: int) -> None:
            self.user = user

        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            return address._CREDENTIALS.pack(1, self.user, 1)

    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert address.is_of_operator(here)
    assert [address.is_of_operator(Peer(user)) for user in (0, os.geteuid(), OTHER_USER)] == [  # type: ignore[arg-type]
        True,
        True,
        False,
    ]


@pytest.mark.provokes("control.refused")
async def test_another_users_connection_is_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(folder):
        monkeypatch.setattr(address, "is_of_operator", lambda connection: False)
        with pytest.raises(ControlFailed):
            await call(folder, "GET", "subscribers")


async def test_a_socket_without_rights_is_anothers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(address, "connect", refused)
    with pytest.raises(ControlFailed, match="run the command as the user of the platform"):
        is_served(folder)


# Calls


@pytest.mark.provokes("control.called")
async def test_the_operator_acts_on_any_clients_subscription_and_is_logged(folder: Path) -> None:
    async with running(folder) as platform:
        subscription = await subscribed(folder)
        with structlog.testing.capture_logs() as lines:
            await call(folder, "POST", "subscriptions", subscription, "suspend", body={})
            shown = await call(folder, "GET", "subscriptions", subscription)
        rows = await platform._database.read(
            lambda connection: connection.execute("SELECT operation FROM log_entries ORDER BY id").fetchall()
        )
    assert shown["status"] == "suspended"
    assert [operation for (operation,) in rows] == [
        "subscriber_created_by_the_operator",
        "subscription_created_by_the_operator",
        "subscription_suspended_by_the_operator",
    ]
    assert [line for line in lines if line["event"] == "control.called"] == [
        {
            "event": "control.called",
            "log_level": "info",
            "method": "POST",
            "path": f"/subscriptions/{subscription}/suspend",
            "status": 202,
        }
    ]


@pytest.mark.parametrize(
    ("path", "body", "error", "words"),
    [
        (("subscriptions", "0199", "retries"), None, NotFound, "no subscription 0199: `aep status` lists"),
        (("subscriptions", "ID", "replays"), {}, InvalidRequest, "from: give either from or event_ids"),
        (("dead-letters", "drop"), {"ids": ["x"]}, InvalidRequest, "ids.0: "),
        (("dead-letters", "drop"), {"ids": [1] * 501}, InvalidRequest, "ids: "),
        (("pims",), {"name": PIM, "before": "x", "after": None}, Conflict, "run the command again"),
        (("pims",), {"name": PIM, "before": None, "after": "x"}, InvalidRequest, "after: "),
        (("pims",), {"name": "x" * 2**22}, ControlFailed, "the platform has answered 413"),
        (("consoles",), None, ControlFailed, "no such route: /consoles): restart it"),
    ],
)
async def test_what_cannot_be_done_is_the_error_that_the_use_case_raises(
    folder: Path, path: tuple[str, ...], body: Any, error: type[EventPlatformError], words: str
) -> None:
    async with running(folder):
        subscription = await subscribed(folder)
        named = [subscription if each == "ID" else each for each in path]
        with pytest.raises(error) as raised:
            await call(folder, "POST", *named, body=body)
    assert words in str(raised.value)


async def test_calls_for_a_clients_records_name_the_client(folder: Path) -> None:
    async with running(folder):
        with pytest.raises(InvalidRequest, match="X-PIM-URL: says whose records are meant"):
            await call(folder, "GET", "subscribers", headers={})
        with pytest.raises(InvalidRequest, match="X-PIM-CLIENT-ID: is no client id"):
            await call(folder, "GET", "subscribers", headers=OWNER | {"X-PIM-CLIENT-ID": "x" * 257})


async def test_the_command_has_what_it_changes_of_a_pim_in_force_at_once(folder: Path) -> None:
    async with running(folder) as platform:
        assert not await platform._pims.tenants()
        added = await aep(folder, "pims", "add", PIM, "--json")
        assert [tenant.name for tenant in await platform._pims.tenants()] == [PIM]
        again = await aep(folder, "pims", "add", PIM, "--rotate", "--json")
        assert orjson.loads(again.out)["ingest_key"] != orjson.loads(added.out)["ingest_key"]
        (tenant,) = await platform._pims.tenants()
        assert len(tenant.ingest_key) == 2
        await aep(folder, "pims", "remove", PIM)
        assert not await platform._pims.tenants()


async def test_the_settings_of_a_feed_are_changed_by_the_platform(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = ("pims", "feed", PIM)
    called: list[str] = []
    monkeypatch.setattr(server, "_log_call", lambda scope, status: called.append(scope["path"]))
    async with running(folder):
        await aep(folder, "pims", "add", PIM)
        monkeypatch.setattr("sys.stdin", io.StringIO("the-secret\nthe-password\n"))
        who = ("--client-id", "1_c", "--username", "feed_1", "--secret", "-")
        assert (await aep(folder, *feed, *who, "--since", "2026-01-31")).status == 0
        assert (await aep(folder, *feed, "--every", "600")).status == 0
        shown = await aep(folder, *feed, "--json")
        assert (orjson.loads(shown.out)["username"], orjson.loads(shown.out)["every"]) == ("feed_1", 600)
        assert called == ["/pims", "/feeds", "/feeds"]
        document = {"tenant": PIM, "version": "1", "client_id": "1_c", "username": "x"}
        no_feed = {"before": None, "after": orjson.dumps(document).decode(), "begins_again": False}
        with pytest.raises(InvalidRequest, match="after: must be the settings of a feed"):
            await call(folder, "POST", "feeds", body=no_feed)
        with closing(opening.connect_to_read(folder / opening.FILE)) as connection:
            ((_, stored),) = feeds.stored_feeds(connection)
        with pytest.raises(Conflict, match="was changed meanwhile"):
            await call(folder, "POST", "feeds", body={"before": "1", "after": stored, "begins_again": False})


async def test_replays_and_retries_of_the_command_are_the_platforms(folder: Path) -> None:
    async with running(folder) as platform:
        subscription = await subscribed(folder)
        retried = await aep(folder, "retry", subscription, "--json")
        since = "2999-01-01T00:00:00Z"
        refused = await aep(folder, "replay", subscription, "--from", since)
        now = platform._clock.now().isoformat()
        replayed = await aep(folder, "replay", subscription, "--from", now, "--json")
    assert orjson.loads(retried.out) == {"retries": 0}
    assert refused.err == "aep: --from must be before now\n"
    assert orjson.loads(replayed.out)["status"] == "done"


@pytest.mark.parametrize("answers", [b"", b"HTTP/1.1 500 Error\r\nContent-Length: 4\r\n\r\noops"])
def test_a_platform_that_does_not_answer_is_said(folder: Path, answers: bytes) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answers)

    with address.listening(folder) as listener:
        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(ControlFailed):
            call_now(folder)
        answering.join()


def test_a_platform_that_hangs_is_waited_for_no_longer_than_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SECONDS", 0.01)
    with address.listening(folder), pytest.raises(ControlFailed):
        call_now(folder)
