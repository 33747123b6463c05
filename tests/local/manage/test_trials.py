"""Test, explain and benchmark over sockets: what receivers get, and what callers are told."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import BENCHMARK
from support import one_pim
from support.aep_here import Ended, run
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM, PRIMARY
from support.one_pim import event as an_update
from support.processes import Child, Client, http, received, send_events, server, signature, until
from support.records import CATEGORY, UPDATED

REDACTED = "***redacted***"
HEADER = "a-value-that-nobody-sees"


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("inbox", "--quiet", "--secret", PRIMARY, "--delay", "3")
    with server(tmp_path_factory.mktemp("inbox"), *options) as child:
        yield child.url


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("trials")
    pims = [one_pim.entry("erp", "shop")]
    with one_pim.serve(folder, pims=pims, settings={"AEP_TIMEOUT": "1"}) as child:
        yield child


@dataclass
class App:
    """A client with a subscriber of its own, and the last subscription that it made."""

    client: Client
    subscriber: str
    subscription: str = ""

    @property
    def path(self) -> str:
        return f"/subscribers/{self.subscriber}/subscriptions/{self.subscription}"

    def subscribe(self, url: str, *events: str, source: str = "pim", **config: Any) -> "App":
        body = {
            "source": source,
            "events": events or [UPDATED],
            "type": "https",
            "config": {"url": url, "secret": {"primary": PRIMARY}} | config,
        }
        path = f"/subscribers/{self.subscriber}/subscriptions"
        self.subscription = self.client.call("POST", path, body, expect=201)["id"]
        return self

    def test(self, body: Any = None, *, expect: int = 200) -> Any:
        return self.client.call("POST", f"{self.path}/test", body, expect=expect)

    def explain(self, body: Any, *, expect: int = 200) -> Any:
        return self.client.call("POST", f"{self.path}/explain", body, expect=expect)


def an_app(serve: Child, client_id: str = "erp") -> App:
    client = Client(serve.url, PIM, CLIENT_KEY, client_id)
    body = {"name": "Trials", "contact": {"technical_email": "ops@example.com"}}
    return App(client, client.call("POST", "/subscribers", body, expect=201)["id"])


@pytest.fixture
def app(serve: Child) -> Iterator[App]:
    app = an_app(serve)
    yield app
    app.client.call("DELETE", f"/subscribers/{app.subscriber}")


# Test


def test_an_example_is_sent_signed_and_what_was_sent_is_shown(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/tested", headers={"X-Key": HEADER})
    shown = app.test()
    (got,) = received(inbox, "/tested")
    assert (got["id"], got["verified"]) == (shown["event"]["id"], True)
    assert (shown["outcome"], shown["status"], shown["reason"]) == ("delivered", 200, None)
    assert shown["milliseconds"] > 0
    request = shown["request"]
    body = request["body"].encode()
    assert request["headers"]["X-AKENEO-SIGNATURE-PRIMARY"] == signature(PRIMARY, body)
    assert orjson.loads(body)["data"] == catalog.load()[UPDATED].example | {
        "product": {"uuid": catalog.load()[UPDATED].example["product"]["uuid"]}
    }
    assert orjson.loads(body)["subject"] == app.subscription
    assert request["headers"]["X-Key"] == REDACTED
    assert HEADER not in orjson.dumps(shown).decode()
    assert list(shown) == [
        "event",
        "outcome",
        "status",
        "reason",
        "milliseconds",
        "request",
        "detail",
        "response",
    ]


def test_one_of_its_types_is_chosen_and_no_other(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/chosen", UPDATED, CATEGORY)
    assert app.test({"type": CATEGORY})["event"]["type"] == CATEGORY
    for unknown in ("com.akeneo.pim.v1.family.created", "nothing"):
        errors = app.test({"type": unknown}, expect=400)["errors"]
        assert errors == [
            {"field": "type", "message": f"type: must be one of the subscription's: {UPDATED}, {CATEGORY}"}
        ]


@pytest.mark.parametrize(
    ("path", "outcome", "status", "reason"),
    [
        ("/500", "retryable", 500, "destination_failure"),
        ("/404", "suspending", 404, "destination_not_found"),
        ("/redirect", "suspending", 302, "destination_redirected"),
        ("/429", "throttled", 429, "destination_failure"),
        ("/slow", "retryable", None, "destination_timeout"),
    ],
)
def test_a_receivers_failure_is_told_and_changes_nothing(
    app: App, inbox: str, path: str, outcome: str, status: int | None, reason: str
) -> None:
    app.subscribe(inbox + path)
    shown = app.test()
    assert (shown["outcome"], shown["status"], shown["reason"]) == (outcome, status, reason)
    assert (shown["response"] is None) == (status is None)
    row = app.client.call("GET", app.path, expect=200)
    assert row["status"] == "active"
    logged = app.client.call("GET", f"/logs?subscription_id={app.subscription}&log_type=error", expect=200)
    assert logged["items"] == []


def test_what_an_endpoint_echoes_of_our_secrets_is_not_shown(app: App, serve: Child) -> None:
    # /docs/errors/… of the platform itself answers 405 and quotes no header, so the body of a refused
    # delivery is looked for in the one place that quotes what came: a path of ours.
    app.subscribe(f"{serve.url}/{PRIMARY}")
    shown = app.test()
    assert shown["status"] == 404
    assert shown["response"]["body"].count(REDACTED) == 1
    assert PRIMARY not in shown["response"]["body"]


def test_a_suspended_subscription_is_tested_too_and_stays_suspended(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/suspended")
    app.client.call("POST", f"{app.path}/suspend", expect=202)
    assert app.test()["outcome"] == "delivered"
    assert app.client.call("GET", app.path, expect=200)["status"] == "suspended"


def test_a_deleted_one_is_not(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/deleted")
    app.client.call("DELETE", app.path, expect=200)
    assert "deleted" in app.test(expect=409)["errors"][0]["message"]
    assert received(inbox, "/deleted") == []


def test_another_clients_subscription_is_unknown(app: App, serve: Child, inbox: str) -> None:
    app.subscribe(f"{inbox}/others")
    app.client.client_id = "shop"
    app.test(expect=404)
    app.explain(an_update(), expect=404)
    app.client.client_id = "erp"


def test_a_second_test_within_a_second_has_to_wait(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/paused")
    started = time.monotonic()
    app.test()
    answer = app.client.call("POST", f"{app.path}/test", {})
    if time.monotonic() - started < 1:
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert len(received(inbox, "/paused")) == 1


# Explain


def test_a_match_is_explained_part_by_part(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/hook")
    found = app.explain(an_update())
    assert found["matches"] is True
    assert [check["part"] for check in found["checks"]] == ["status", "source", "events", "filter"]
    assert all(check["passes"] for check in found["checks"])


def test_type_and_data_are_enough(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/hook")
    sent = {"type": CATEGORY, "data": catalog.load()[CATEGORY].example}
    found = app.explain(sent)
    assert found["matches"] is False
    assert [check["part"] for check in found["checks"] if not check["passes"]] == ["events"]


def test_a_suspended_or_deleted_one_says_so(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/hook")
    for call, path in (("POST", f"{app.path}/suspend"), ("DELETE", app.path)):
        app.client.call(call, path)
        found = app.explain(an_update())
        assert [check["part"] for check in found["checks"] if not check["passes"]] == ["status"]
    assert found["checks"][0]["message"].startswith("the subscription is deleted")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"type": UPDATED}, ["data"]),
        ({"type": f"{UPDATED}s", "data": {}}, ["type"]),
        ({"type": UPDATED, "data": {}}, ["data", "data"]),
        ([], [None]),
    ],
)
def test_what_ingest_would_refuse_is_refused_alike(
    app: App, inbox: str, body: Any, fields: list[str | None]
) -> None:
    app.subscribe(f"{inbox}/hook")
    assert [error.get("field") for error in app.explain(body, expect=400)["errors"]] == fields


# On the command line


def aep(app: App, command: str, *arguments: str, token: str = CLIENT_KEY) -> Ended:
    options = ("--url", app.client.base, "--pim-url", PIM, "--client-id", "erp")
    return run(command, app.subscription, *options, *arguments, settings={"AEP_PIM_TOKEN": token})


def test_the_command_shows_what_was_sent_and_answered(app: App, inbox: str) -> None:
    ended = aep(app.subscribe(f"{inbox}/500", headers={"X-Key": HEADER}), "test")
    assert (ended.status, ended.err) == (1, "")
    assert ended.out.startswith("retryable: answered 500 after ")
    assert f"POST {inbox}/500\n" in ended.out
    assert f"X-Key: {REDACTED}\n" in ended.out
    (body,) = [line for line in ended.out.splitlines() if line.startswith("{")]
    assert f"X-AKENEO-SIGNATURE-PRIMARY: {signature(PRIMARY, body.encode())}\n" in ended.out
    assert CLIENT_KEY not in ended.out
    assert ended.out.endswith("\nanswer:\n500\n")


def test_the_command_ends_well_when_the_endpoint_took_it(app: App, inbox: str) -> None:
    ended = aep(app.subscribe(f"{inbox}/command", UPDATED, CATEGORY), "test", "--type", CATEGORY, "--json")
    assert (ended.status, orjson.loads(ended.out)["event"]["type"]) == (0, CATEGORY)


def test_the_command_explains_part_by_part(app: App, inbox: str, tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(orjson.dumps({"type": CATEGORY, "data": catalog.load()[CATEGORY].example}))
    app.subscribe(f"{inbox}/hook")
    ended = aep(app, "explain", "--event", str(file))
    assert ended.status == 1
    assert ended.out.splitlines()[0] == "The subscription does not get it."
    assert f"NO  events  events does not list {CATEGORY}" in ended.out
    file.write_bytes(orjson.dumps(an_update()))
    ended = aep(app, "explain", "--event", str(file), "--json")
    assert (ended.status, orjson.loads(ended.out)["matches"]) == (0, True)


def test_the_command_explains_what_aep_events_prints(app: App, inbox: str, tmp_path: Path) -> None:
    app.subscribe(f"{inbox}/hook")
    file = tmp_path / "printed"
    for options in ((), ("--json",)):
        file.write_text(run("events", UPDATED, *options).out)
        ended = aep(app, "explain", "--event", str(file))
        assert (ended.status, ended.out.splitlines()[0]) == (0, "The subscription gets it.")


def test_what_goes_wrong_is_one_line_without_the_token(app: App, inbox: str, tmp_path: Path) -> None:
    app.subscribe(f"{inbox}/hook")
    wrong = "a-token-that-is-wrong"
    none = App(app.client, app.subscriber, "none")
    nowhere = App(Client("http://127.0.0.1:1", PIM, CLIENT_KEY, "erp"), "", "x")
    for ended, status, told in [
        (aep(app, "test", token=wrong), 1, "the platform answered 401"),
        (aep(app, "test", token=""), 2, "give --token - or AEP_PIM_TOKEN"),
        (aep(app, "test", "--type", "nothing"), 1, "must be one of the subscription's"),
        (aep(none, "test"), 1, "no subscription none of this client"),
        (aep(nowhere, "test"), 1, "no answer from http://127.0.0.1:1/api/v1"),
        (
            aep(app, "explain", "--event", str(tmp_path / "none")),
            2,
            "file or directory; look at the path",
        ),
    ]:
        assert (ended.status, ended.out) == (status, "")
        assert told in ended.err
        assert wrong not in ended.err
        assert ended.err.count("\n") == 1


# Benchmark


def start(app: App, *, expect: int = 202, **body: Any) -> Any:
    return app.client.call("POST", "/benchmark", {"type": BENCHMARK, **body}, expect=expect)


def test_its_events_come_to_the_callers_benchmark_subscriptions_and_to_nobody_else(
    serve: Child, inbox: str, app: App
) -> None:
    app.subscribe(f"{inbox}/bench-1", source="benchmark").subscribe(
        f"{inbox}/bench-2", CATEGORY, source="benchmark"
    )
    app.subscribe(f"{inbox}/bench-pim", UPDATED, BENCHMARK)
    an_app(serve, "shop").subscribe(f"{inbox}/bench-shop", source="benchmark")
    started = start(app, count=30, size="2", custom_data={"run": 7})
    assert set(started) == {"id", "count"}
    assert started["count"] == 30
    assert send_events(serve.url, INGEST_KEY, an_update()) == 202

    def arrived() -> bool:
        return all(len(received(inbox, path)) >= 30 for path in ("/bench-1", "/bench-2"))

    until(arrived, "30 test events at each")
    until(lambda: received(inbox, "/bench-pim"), "the PIM's own event")
    got = received(inbox, "/bench-1")
    assert [each["verified"] for each in got] == [True] * 30
    assert {each["type"] for each in got} == {BENCHMARK}
    assert {each["id"] for each in got} == {f"{started['id']}-{number}" for number in range(1, 31)}
    assert [each["type"] for each in received(inbox, "/bench-pim")] == [UPDATED]
    assert received(inbox, "/bench-shop") == []


def test_without_a_count_it_is_a_thousand_and_the_next_has_to_wait(app: App, inbox: str) -> None:
    app.subscribe(f"{inbox}/thousand", source="benchmark")
    until(
        lambda: app.client.call("POST", "/benchmark", {"type": BENCHMARK, "count": 1}).status_code == 202,
        "a turn",
    )
    time.sleep(1.1)
    assert start(app)["count"] == 1000
    answer = app.client.call("POST", "/benchmark", {"type": BENCHMARK})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": UPDATED}, "type"),
        ({"type": None}, "type"),
        ({"count": 0}, "count"),
        ({"count": 10_001}, "count"),
        ({"count": "10"}, "count"),
        ({"size": 10.5}, "size"),
        ({"size": "11"}, "size"),
        ({"size": "many"}, "size"),
        ({"size": -1}, "size"),
        ({"size": True}, "size"),
        ({"custom_data": "x" * 10_240}, "custom_data"),
    ],
)
def test_a_wrong_benchmark_is_refused_with_its_field(app: App, body: dict[str, Any], field: str) -> None:
    (error,) = start(app, **body, expect=400)["errors"]
    assert error["field"] == field


def test_more_deliveries_than_a_benchmark_may_have_are_a_409_that_says_how_many(app: App, inbox: str) -> None:
    for number in range(11):
        app.subscribe(f"{inbox}/many-{number}", source="benchmark")
    message = start(app, count=10_000, expect=409)["errors"][0]["message"]
    assert "lower count to 9090" in message


def test_the_schema_of_test_events_is_served(serve: Child) -> None:
    url = f"{serve.url}/spec/{BENCHMARK}.schema.json"
    assert http().get(url, timeout=10).json()["$id"] == url
