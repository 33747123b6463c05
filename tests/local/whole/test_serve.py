"""`aep serve` as a process: how it starts, refuses to start, stops, and goes on after a restart."""

import base64
import os
import re
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from event_platform import __version__
from support import one_pim
from support.embedded import EVENT_OF_DELIVERY
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM
from support.processes import (
    START_SECONDS,
    Child,
    Client,
    command,
    delivered,
    free_port,
    ready,
    received,
    send_events,
    server,
    until,
)

UPDATED = "com.akeneo.pim.v1.product.updated"
PRIMARY = "primary-secret-of-the-subscription"
STOPS_WITHIN = 10.0


def pims(path: Path, **changes: Any) -> list[str]:
    """The options of `serve` for one PIM whose clients need no call to it."""
    return one_pim.registry(path.parent, one_pim.entry(**changes))


def client_of(serve: Child) -> Client:
    return Client(serve.url, PIM, CLIENT_KEY, "erp")


def subscription_body(url: str, **config: Any) -> dict[str, Any]:
    return {
        "events": [UPDATED],
        "type": "https",
        "config": {"url": url, "secret": {"primary": PRIMARY}} | config,
    }


def subscriber_of(client: Client, **contact: Any) -> str:
    body = {"name": "Serve", "contact": {"technical_email": "ops@example.com", **contact}}
    return f"/subscribers/{client.call('POST', '/subscribers', body, expect=201)['id']}"


def subscribe(client: Client, url: str) -> None:
    client.call("POST", f"{subscriber_of(client)}/subscriptions", subscription_body(url), expect=201)


def event(product: str | None = None) -> dict[str, Any]:
    author = {"identifier": "julia", "type": "user"}
    data = {"product": {"uuid": product or str(uuid.uuid4())}, "author": author}
    return {"id": str(uuid.uuid4()), "type": UPDATED, "data": data}


def emit(serve: Child, product: str | None = None) -> str:
    """One event into the platform; its id."""
    sent = event(product)
    assert send_events(serve.url, INGEST_KEY, sent) == 202
    return sent["id"]


def rows(data: Path, query: str) -> list[tuple[Any, ...]]:
    """Read beside the platform, or after it."""
    connection = sqlite3.connect(f"file:{data / 'aep.db'}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def stop_in_time(serve: Child, number: int = signal.SIGTERM) -> None:
    started = time.monotonic()
    assert serve.stop(number) == 0, serve.stderr()
    assert time.monotonic() - started < STOPS_WITHIN


def refusal(child: Child) -> str:
    """The one line on standard error of a command that refuses to start."""
    assert child.wait(START_SECONDS) != 0
    assert child.stdout() == ""
    complaints = [line for line in child.stderr().splitlines() if not line.startswith("{")]
    assert len(complaints) == 1, child.stderr()
    assert complaints[0].startswith("aep: ")
    assert "Traceback" not in child.stderr()
    assert "platform.fault" not in child.stderr()
    return complaints[0]


# One platform as it is meant to run, without --dev


@dataclass(frozen=True)
class Strict:
    serve: Child
    data: Path


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("serve")
    data = folder / "data"
    with server(folder, "serve", "--data", str(data), *pims(folder / "pims.json")) as serve:
        yield Strict(serve, data)


def test_ready_is_one_line_and_the_port_takes_requests_then(strict: Strict) -> None:
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", strict.serve.stdout())
    assert client_of(strict.serve).call("GET", "/subscribers").status_code == 200


@pytest.mark.provokes("platform.started", "platform.stopped")
def test_a_line_at_start_and_stop_says_what_runs_and_what_is_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with server(tmp_path, "serve", "--data", str(data), "--workers", "0") as serve:
        assert serve.stop() == 0
        lines = [orjson.loads(line) for line in serve.stderr().splitlines()]
    first, last = (
        next(line for line in lines if line["event"] == f"platform.{when}") for when in ("started", "stopped")
    )
    assert (
        first.items()
        >= {
            "version": __version__,
            "url": serve.url,
            "data": str(data),
            "workers": 0,
            "pims": 0,
            "ingest_formats": [],
            "fix": f"register a PIM, while this runs: aep pims add https://YOUR-PIM --data {data}",
        }.items()
    )
    assert last == lines[-1]
    assert (last["deliveries_waiting"], last["seconds"] >= 0) == (0, True)


def test_on_a_terminal_lines_are_for_a_person_and_in_colour(tmp_path: Path) -> None:
    ours, its = os.openpty()
    settings = {"TERM": "xterm", "NO_COLOR": ""}
    try:
        arguments = ["serve", "--data", str(tmp_path / "data"), *pims(tmp_path / "pims.json")]
        with server(tmp_path, *arguments, settings=settings, stderr=its) as serve:
            said = ""
            while not re.search(r"platform\.started.*\n", said):
                said += os.read(ours, 65536).decode()
            assert serve.stop() == 0
    finally:
        os.close(its)
        os.close(ours)
    (line,) = [line for line in said.splitlines() if "platform.started" in line]
    assert re.match(r"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m  \x1b\[32minfo ", line)
    assert f"url={serve.url}" in line
    assert "pims=1" in line
    assert "register a PIM" not in said


def test_without_dev_there_is_no_warning(strict: Strict) -> None:
    assert "WARNING" not in strict.serve.stderr()


@pytest.mark.parametrize(
    "url", ["http://93.184.215.14/", "https://127.0.0.1/", "https://localhost/", "https://[::1]:8443/"]
)
def test_without_dev_an_endpoint_is_public_and_https(strict: Strict, url: str) -> None:
    client = client_of(strict.serve)
    subscriber = subscriber_of(client)
    answer = client.call("POST", f"{subscriber}/subscriptions", subscription_body(url))
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["config.url"]
    client.call("DELETE", subscriber, expect=200)


def test_without_dev_a_notification_webhook_is_public_and_https(strict: Strict) -> None:
    contact = {
        "technical_email": "ops@example.com",
        "notification_webhook_url": "https://127.0.0.1/",
        "notification_webhook_secret": PRIMARY,
    }
    answer = client_of(strict.serve).call("POST", "/subscribers", {"name": "x", "contact": contact})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["contact.notification_webhook_url"]


def test_a_second_platform_on_the_same_folder_is_refused(strict: Strict, tmp_path: Path) -> None:
    with command(tmp_path, "serve", "--port", "0", "--data", str(strict.data)) as second:
        complaint = refusal(second)
    assert str(strict.data) in complaint
    assert "--data" in complaint
    assert client_of(strict.serve).call("GET", "/subscribers").status_code == 200


# What stops the start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AEP_RETRY_DELAYS", "5,soon"),
        ("AEP_RETRY_DELAYS", "0"),
        ("AEP_TIMEOUT", "-1"),
        ("AEP_RATE_MIN", "0"),
        ("AEP_RATE_MAX", "fast"),
        ("AEP_DEV", "maybe"),
        ("AEP_PUBLIC_URL", "aep.example.com"),
        ("AEP_LOG_LEVEL", "loud"),
        ("AEP_MAX_AGE", "inf"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In this process, since nothing is started; the way out is the command's own."""
    from aep.cli import main

    monkeypatch.setattr("sys.argv", ["aep", "serve", "--port", "0", "--data", str(tmp_path / "data")])
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith((f"aep: {name}: ", f"aep: {name}, "))  # the second names a place in it
    assert complaint.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.full
def test_a_folder_without_its_own_key_is_refused_whatever_became_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = data / "secrets.key"
    arguments = ("serve", "--port", "0", "--data", str(data))
    with command(tmp_path, *arguments) as first:
        ready(first)
        stop_in_time(first)
    good = key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700

    key.unlink()
    with command(tmp_path, *arguments) as missing:
        key_is_missing = refusal(missing)
    assert "secrets.key" in key_is_missing
    assert not key.exists(), "a new key would make the loss of the old one look repaired"

    key.write_text(base64.b64encode(os.urandom(32)).decode())
    with command(tmp_path, *arguments) as wrong:
        assert "another key" in refusal(wrong)

    key.unlink()
    with command(tmp_path, *arguments, settings={"AEP_SECRETS_KEY": good.strip()}) as moved:
        ready(moved)
        stop_in_time(moved)


def test_a_pim_without_tls_is_refused_without_dev(tmp_path: Path) -> None:
    listed = pims(tmp_path / "pims.json", url="http://pim.example.com")
    with command(tmp_path, "serve", "--port", "0", "--data", str(tmp_path / "data"), *listed) as child:
        complaint = refusal(child)
    assert "http://pim.example.com" in complaint
    assert "--dev" in complaint


# How it stops, and goes on


def serve_arguments(folder: Path) -> list[str]:
    return ["serve", "--dev", "--data", str(folder / "data"), *pims(folder / "pims.json")]


def test_dev_is_a_loud_warning(tmp_path: Path) -> None:
    with server(tmp_path, *serve_arguments(tmp_path)) as serve:
        stop_in_time(serve, signal.SIGINT)
    assert serve.stderr().startswith("WARNING: --dev ")


@pytest.mark.full
def test_a_stop_waits_for_the_delivery_under_way_and_a_restart_sends_the_next_of_its_lane(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with server(tmp_path, "inbox", "--quiet", "--behaviour", "slow", "--delay", "1.5") as inbox:
        with server(tmp_path, *serve_arguments(tmp_path)) as serve:
            subscribe(client_of(serve), f"{inbox.url}/hook")
            product = str(uuid.uuid4())  # of one product, so that the second waits for the first
            first, second = emit(serve, product), emit(serve, product)
            delivered(inbox.url, "/hook", first)
            assert rows(data, "SELECT count(*) FROM deliveries") == [(2,)]
            stop_in_time(serve)
        assert rows(data, f"SELECT {EVENT_OF_DELIVERY} FROM deliveries d") == [(second,)]  # noqa: S608
        assert rows(data, "SELECT count(*) FROM retries") == [(0,)]
        with server(tmp_path, *serve_arguments(tmp_path)) as serve:
            delivered(inbox.url, "/hook", second)
            stop_in_time(serve)
        assert [delivery["id"] for delivery in received(inbox.url, "/hook")] == [first, second]


@pytest.mark.full
def test_what_a_filter_does_not_match_is_skipped_silently_also_after_a_restart(tmp_path: Path) -> None:
    filters = {"/all": None, "/julia": 'user = "julia"', "/others": 'not user = "julia"'}
    with server(tmp_path, "inbox", "--quiet") as inbox:
        with server(tmp_path, *serve_arguments(tmp_path)) as serve:
            client = client_of(serve)
            path = f"{subscriber_of(client)}/subscriptions"
            for hook, expression in filters.items():
                body = subscription_body(inbox.url + hook) | {"filter": expression}
                client.call("POST", path, body, expect=201)
            first = emit(serve)
            delivered(inbox.url, "/julia", first)
            stop_in_time(serve)
        with server(tmp_path, *serve_arguments(tmp_path)) as serve:
            second = emit(serve)
            delivered(inbox.url, "/julia", second)
            until(
                lambda: rows(tmp_path / "data", "SELECT count(*) FROM deliveries") == [(0,)], "an empty queue"
            )
            assert client_of(serve).call("GET", "/logs?log_type=error", expect=200)["items"] == []
        arrived = {hook: [each["id"] for each in received(inbox.url, hook)] for hook in filters}
        assert arrived == {"/all": [first, second], "/julia": [first, second], "/others": []}


@pytest.mark.full
def test_a_restart_goes_on_with_the_retries_that_waited(tmp_path: Path) -> None:
    settings = {"AEP_RETRY_DELAYS": ",".join(["0.3"] * 60)}
    port = str(free_port())
    data = tmp_path / "data"
    with server(tmp_path, *serve_arguments(tmp_path), settings=settings) as serve:
        subscribe(client_of(serve), f"http://127.0.0.1:{port}/hook")
        ids = [emit(serve) for _ in range(5)]
        until(
            lambda: rows(data, "SELECT count(*), min(attempts) FROM retries WHERE attempts > 0")[0][0] == 5,
            "a first attempt at every event",
        )
        stop_in_time(serve)
    left = {
        event_id
        for table in ("deliveries", "retries")
        for (event_id,) in rows(data, f"SELECT {EVENT_OF_DELIVERY} FROM {table} d")  # noqa: S608
    }
    assert left == set(ids)
    with (
        server(tmp_path, "inbox", "--quiet", "--port", port) as inbox,
        server(tmp_path, *serve_arguments(tmp_path), settings=settings) as serve,
    ):
        for event_id in ids:
            delivered(inbox.url, "/hook", event_id)
        assert client_of(serve).call("GET", "/subscribers", expect=200)
        left = "SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM retries)"
        until(lambda: rows(data, left) == [(0,)], "nothing waits any more")
        assert sorted(delivery["id"] for delivery in received(inbox.url, "/hook")) == sorted(ids)


def test_nothing_secret_is_in_the_folder_or_the_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    secrets = {
        "primary": PRIMARY,
        "secondary": "secondary-secret-of-the-subscription",
        "header": "value-of-the-custom-header",
        "notification": "secret-of-the-notification-webhook",
        "token": CLIENT_KEY,
    }
    with command(tmp_path, "pims", "add", PIM, "--data", str(data), "--json") as adding:
        assert adding.wait() == 0
    added = orjson.loads(adding.stdout())
    secrets["ingest key"], secrets["relay secret"] = added["ingest_key"], added["relay_secret"]
    keyed = "https://keyed.example.com"
    listed = pims(tmp_path / "pims.json", url=keyed)
    with server(
        tmp_path, "serve", "--dev", "--data", str(data), *listed, settings={"AEP_LOG_LEVEL": "debug"}
    ) as serve:
        client = Client(serve.url, keyed, CLIENT_KEY, "erp")
        webhook = "http://127.0.0.1:4/notify"
        subscriber = subscriber_of(
            client,
            notification_webhook_url=webhook,
            notification_webhook_secret=secrets["notification"],
        )
        body = subscription_body(
            "http://127.0.0.1:4/hook",
            secret={"primary": PRIMARY, "secondary": secrets["secondary"]},
            headers={"X-Key": secrets["header"]},
        )
        client.call("POST", f"{subscriber}/subscriptions", body, expect=201)
        assert send_events(serve.url, secrets["ingest key"], event()) == 202
        assert emit(serve)
        until(lambda: "delivery.attempted" in serve.stderr(), "an attempt")
        running = contents(data)
        stop_in_time(serve)
    stored = running + contents(data)
    assert webhook.encode() in stored, "the records are there, so their secrets would be as well"
    for what, secret in secrets.items():
        assert secret.encode() not in stored, what
        assert secret not in serve.stderr(), what
    for secret in (PRIMARY, secrets["ingest key"]):
        assert base64.b64encode(secret.encode()).rstrip(b"=") not in stored


def contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())
