"""`aep subscribers` and `aep subscriptions`: as an app, and as the operator of a data folder."""

import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.cli import management
from aep.store.database import Database
from event_platform.domain.subscriptions import REDACTED
from support import one_pim
from support.aep_here import Ended, run
from support.processes import Child

ENDPOINT = "https://127.0.0.1/events"
UNKNOWN = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"


class Commands:
    """The commands on a platform that runs: as its only client, or as its operator."""

    def __init__(self, serve: Child, folder: Path) -> None:
        self._operator = ["--operator", "--data", str(folder / "data")]
        self._app = {
            "AEP_URL": serve.url,
            "AEP_PIM_URL": one_pim.PIM,
            "AEP_CLIENT_ID": "erp",
            "AEP_PIM_TOKEN": one_pim.CLIENT_KEY,
        }

    def app(self, *words: str, **settings: str) -> Ended:
        return run(*words, settings=self._app | settings)

    def operator_logs(self, subscription: str) -> list[str]:
        ended = run("logs", "--json", "--subscription", subscription, *self._operator[1:])
        return [orjson.loads(line)["operation"] for line in ended.out.splitlines()]

    def operator(self, *words: str) -> Ended:
        return run(*words, *self._operator, settings=self._app)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("management")


@pytest.fixture(scope="module")
def commands(folder: Path) -> Iterator[Commands]:
    with one_pim.serve(folder) as serve:
        yield Commands(serve, folder)


def json(ended: Ended) -> Any:
    assert ended.status == 0, ended
    return orjson.loads(ended.out)


@pytest.fixture
def subscriber(commands: Commands) -> Iterator[str]:
    made = json(
        commands.app("subscribers", "create", "--name", "ERP", "--email", "ops@example.com", "--json")
    )
    yield made["id"]
    commands.app("subscribers", "delete", made["id"], "--yes")


@pytest.fixture
def subscription(commands: Commands, subscriber: str) -> str:
    words = ("--endpoint", ENDPOINT, "--events", "product.updated", "--json")
    return json(commands.app("subscriptions", "create", subscriber, *words))["id"]


# As an app


def test_an_app_creates_shows_changes_and_deletes_a_subscriber(commands: Commands) -> None:
    created = commands.app("subscribers", "create", "--name", "ERP", "--email", "ops@example.com")
    assert created.status == 0, created
    subscriber = created.out.split()[1]
    assert created.out.startswith(f"Subscriber {subscriber} is created.\n{subscriber}  ERP  active\n")
    assert json(commands.app("subscribers", "list", "--json")) == [
        json(commands.app("subscribers", "show", subscriber, "--json"))
    ]
    changed = json(commands.app("subscribers", "set", subscriber, "--name", "Shop", "--json"))
    assert (changed["name"], changed["contact"]["technical_email"]) == ("Shop", "ops@example.com")
    assert commands.app("subscribers", "delete", subscriber, "--yes").out == (
        f"Subscriber {subscriber} is deleted.\n"
    )
    assert commands.app("subscribers", "list").out == "There are no subscribers yet.\n"


def test_a_webhook_of_notifications_gets_a_secret_once(commands: Commands, subscriber: str) -> None:
    with_webhook = ("subscribers", "set", subscriber, "--webhook", "https://127.0.0.1/told", "--json")
    first = json(commands.app(*with_webhook))
    assert first["contact"]["notification_channels"] == ["email", "webhook"]
    assert len(first["notification_webhook_secret"]) > 40
    assert "notification_webhook_secret" not in json(commands.app(*with_webhook))
    without = json(commands.app("subscribers", "set", subscriber, "--webhook", "", "--json"))
    assert without["contact"] == {"technical_email": "ops@example.com", "notification_channels": ["email"]}


def test_an_app_creates_shows_changes_and_deletes_a_subscription(commands: Commands, subscriber: str) -> None:
    words = ("--endpoint", ENDPOINT, "--events", "product.updated, com.akeneo.pim.v1.product.created")
    created = json(commands.app("subscriptions", "create", subscriber, *words, "--json"))
    assert created["events"] == ["com.akeneo.pim.v1.product.updated", "com.akeneo.pim.v1.product.created"]
    assert len(created["secret"]) > 40
    assert created["config"] == {"url": ENDPOINT, "secret": {"primary": REDACTED}}
    shown = commands.app("subscriptions", "show", created["id"])
    assert shown.out.startswith(f"{created['id']}  active\n  destination  {ENDPOINT}\n")
    changed = json(
        commands.app(
            "subscriptions", "set", created["id"], "--endpoint", f"{ENDPOINT}/2", "--catch-up", "--json"
        )
    )
    assert (changed["config"]["url"], changed["catch_up"]) == (f"{ENDPOINT}/2", True)
    deleted = commands.app("subscriptions", "delete", created["id"], "--yes")
    assert deleted.out == f"Subscription {created['id']} is deleted.\n"
    assert json(commands.app("subscriptions", "list", "--json")) == []


def test_an_app_suspends_and_resumes(commands: Commands, subscriber: str, subscription: str) -> None:
    for words, status in (
        (("subscriptions", "suspend", subscription), "suspended"),
        (("subscriptions", "resume", subscription, "--catch-up"), "active"),
        (("subscribers", "suspend", subscriber), "suspended"),
        (("subscribers", "resume", subscriber), "active"),
    ):
        assert commands.app(*words).status == 0
        assert json(commands.app("subscriptions", "show", subscription, "--json"))["status"] == status


def test_a_subscription_of_another_kind_comes_in_a_body(
    commands: Commands, subscriber: str, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    config = {"url": ENDPOINT, "secret": {"primary": "a secret of sixteen"}, "headers": {"X-Stage": "test"}}
    body.write_bytes(orjson.dumps({"type": "https", "config": config, "source": "benchmark", "events": []}))
    words = ("subscriptions", "create", subscriber, "--body", str(body), "--events", "product.updated")
    created = json(commands.app(*words, "--json"))
    assert (created["source"], created["config"]["headers"]) == ("benchmark", {"X-Stage": REDACTED})


def test_secrets_come_from_standard_input(
    commands: Commands, subscription: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{one_pim.CLIENT_KEY}\nanother secret that signs\n"))
    words = ("subscriptions", "set", subscription, "--secret", "-", "--token", "-", "--json")
    assert json(commands.app(*words))["config"]["url"] == ENDPOINT
    assert "--secret takes -" in commands.app("subscriptions", "set", subscription, "--secret", "typed").err


@pytest.mark.parametrize(
    ("words", "settings", "status", "message"),
    [
        (("list",), {"AEP_PIM_TOKEN": "none"}, 1, "Check --pim-url, --client-id and the token"),
        (("list",), {"AEP_PIM_TOKEN": ""}, 2, "give --token - or AEP_PIM_TOKEN"),
        (("list",), {"AEP_URL": "http://127.0.0.1:9"}, 1, "check --url"),
        (("show", UNKNOWN), {}, 1, f"no subscription {UNKNOWN} of this client: `aep subscriptions list`"),
        (("create", UNKNOWN, "--endpoint", ENDPOINT, "--events", "x"), {}, 1, "events.0: unknown event type"),
        (("set", UNKNOWN), {}, 2, "nothing to change"),
        (("list", "--data", "."), {}, 2, "--data is the operator's: give --operator too"),
        (
            ("list", "--operator", "--url", "http://x"),
            {},
            2,
            "--url is an app's: --operator works on",
        ),
    ],
)
def test_what_fails_is_one_line_that_says_what_to_do(
    commands: Commands, words: tuple[str, ...], settings: dict[str, str], status: int, message: str
) -> None:
    ended = commands.app("subscriptions", *words, **settings)
    assert (ended.status, ended.out, ended.err.count("\n")) == (status, "", 1)
    assert message in ended.err


class _Elsewhere(BaseHTTPRequestHandler):
    """Redirects each call, or answers something else."""

    def do_GET(self) -> None:
        if self.headers["X-PIM-TOKEN"] == "redirect":
            self.send_response(301)
            self.send_header("Location", "https://elsewhere.example.com/api/v1/subscribers")
        else:
            self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b" " * 99 + b"x")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name there
        pass


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("redirect", "redirects to https://elsewhere.example.com/api/v1/subscribers: change --url"),
        ("other", "what came is no answer of this platform): check --url"),
        ("long", "what came is no answer of this platform): check --url"),
    ],
)
def test_a_token_goes_to_no_other_place_and_a_strange_answer_is_none(
    token: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token == "long":
        monkeypatch.setattr(management, "LONGEST_ANSWER", 10)
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as elsewhere:
        elsewhere.timeout = 10  # seconds, in which a call comes or never
        thread = threading.Thread(target=elsewhere.handle_request, daemon=True)
        thread.start()
        whose = ("--pim-url", one_pim.PIM, "--client-id", "erp", "--token", token)
        ended = run("subscribers", "list", "--url", f"http://127.0.0.1:{elsewhere.server_port}", *whose)
        thread.join()
    assert (ended.status, ended.out) == (1, "")
    assert message in ended.err


def test_nothing_is_deleted_without_a_question(commands: Commands, subscriber: str) -> None:
    ended = commands.app("subscribers", "delete", subscriber)
    assert (ended.status, "give --yes" in ended.err) == (2, True)
    assert commands.app("subscribers", "show", subscriber).status == 0


# As the operator


def test_the_operator_acts_over_all_clients_and_the_log_says_who_did(
    commands: Commands, subscriber: str, subscription: str
) -> None:
    """Through the platform that runs, which delivers no more from then on."""
    (listed,) = json(commands.operator("subscriptions", "list", "--json"))
    assert (listed["id"], listed["pim_url"], listed["client_id"]) == (subscription, one_pim.PIM, "erp")
    assert json(commands.operator("subscribers", "list", "--json"))[0]["id"] == subscriber
    suspended = json(commands.operator("subscriptions", "suspend", subscription, "--json"))
    assert suspended["status"] == "suspended"
    assert json(commands.app("subscriptions", "show", subscription, "--json"))["status"] == "suspended"
    assert commands.operator("subscribers", "resume", subscriber).status == 0
    assert json(commands.app("subscriptions", "show", subscription, "--json"))["status"] == "active"
    log = commands.operator_logs(subscription)
    assert log[-2:] == ["subscription_suspended_by_the_operator", "subscription_resumed_by_the_operator"]


def test_the_operator_creates_for_a_client_that_is_named(commands: Commands) -> None:
    words = ("subscribers", "create", "--name", "Other", "--email", "ops@example.com")
    without = commands.operator(*words)  # the variables are an app's, and do not count
    assert (without.status, "--pim-url and --client-id must be given" in without.err) == (2, True)
    whose = ("--pim-url", f"{one_pim.PIM}/", "--client-id", "other")
    created = json(commands.operator(*words, *whose, "--json"))
    assert (created["pim_url"], created["client_id"]) == (one_pim.PIM, "other")
    assert json(commands.app("subscribers", "list", "--json")) == []
    assert [each["id"] for each in json(commands.operator("subscribers", "list", *whose[2:], "--json"))] == [
        created["id"]
    ]
    assert commands.operator("subscribers", "delete", created["id"], "--yes").status == 0


def test_what_the_operator_may_not_is_said_as_the_api_says_it(commands: Commands, subscription: str) -> None:
    for words, message in (
        (("suspend", UNKNOWN), "`aep subscriptions list --operator` shows them"),
        (("set", subscription, "--events", "none"), "events.0: unknown event type"),
        (("set", subscription, "--filter", "user ="), "filter: "),
    ):
        ended = commands.operator("subscriptions", *words)
        assert (ended.status, ended.out, ended.err.count("\n"), message in ended.err) == (1, "", 1, True)


def test_without_a_platform_the_operator_acts_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def aep(*words: str, status: int = 0) -> Ended:
        ended = run(*words, "--operator", "--data", str(tmp_path), settings={"AEP_DEV": "1"})
        assert ended.status == status, ended
        return ended

    assert "there is no store" in aep("subscribers", "list", status=1).err
    run("pims", "add", one_pim.PIM, "--data", str(tmp_path))
    assert aep("subscribers", "list").out == "There are no subscribers yet.\n"
    whose = ("--pim-url", one_pim.PIM, "--client-id", "erp")
    words = ("--name", "ERP", "--email", "ops@example.com", "--json")
    subscriber = json(aep("subscribers", "create", *whose, *words))["id"]
    words = ("--endpoint", "http://127.0.0.1:3000/events", "--events", "product.updated", "--json")
    subscription = json(aep("subscriptions", "create", subscriber, *words))["id"]
    aep("subscriptions", "create", subscriber, *words)
    opened: list[Path] = []
    opens = Database.open
    monkeypatch.setattr(Database, "open", lambda *given: (opened.append(tmp_path), opens(*given)))
    assert len(json(aep("subscribers", "suspend", subscriber, "--json"))) == 2
    assert len(opened) == 1, "the file is opened once, however many subscriptions there are"
    assert json(aep("subscriptions", "show", subscription, "--json"))["status"] == "suspended"
    assert "unknown event type" in aep("subscriptions", "set", subscription, "--events", "x", status=1).err
    assert json(aep("subscribers", "suspend", subscriber, "--json")) == []
    aep("subscribers", "delete", subscriber, "--yes")
    assert aep("subscriptions", "list").out == "There are no subscriptions yet.\n"
    log = run("logs", "--json", "--data", str(tmp_path)).out.splitlines()
    assert [orjson.loads(line)["operation"] for line in log][-3:] == [
        "subscriber_deleted_by_the_operator",
        "subscription_deleted_by_the_operator",
        "subscription_deleted_by_the_operator",
    ]
