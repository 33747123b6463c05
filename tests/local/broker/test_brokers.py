"""Pub/Sub and Kafka destinations of a platform that runs: from management to the broker and the log."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from support import one_pim
from support.aep_here import run
from support.kafka_broker import KafkaBroker
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM, event
from support.processes import Child, Client, send_events, server, until
from support.pubsub_project import Project
from support.records import UPDATED

REDACTED = "***redacted***"
HEADERS = {"X-Stage": "a-value-that-nobody-sees"}
PASSWORD_ANEW = "must be sent anew when the broker changes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brokers")


@pytest.fixture(scope="module")
def serve(folder: Path) -> Iterator[Child]:
    with one_pim.serve(folder) as child:
        yield child


class App:
    """A client with a subscriber of its own."""

    def __init__(self, url: str) -> None:
        self.client = Client(url, PIM, CLIENT_KEY, "erp")
        body = {"name": "Brokers", "contact": {"technical_email": "ops@example.com"}}
        self.path = f"/subscribers/{self.client.call('POST', '/subscribers', body, expect=201)['id']}"

    def subscribe(self, kind: str, config: dict[str, Any], *, expect: int = 201) -> Any:
        body = {"events": [UPDATED], "type": kind, "config": config}
        return self.client.call("POST", f"{self.path}/subscriptions", body, expect=expect)

    def change(self, row: dict[str, Any], change: dict[str, Any], *, expect: int = 200) -> Any:
        return self.client.call("PATCH", f"{self.path}/subscriptions/{row['id']}", change, expect=expect)

    def status(self, row: dict[str, Any]) -> str:
        return self.client.call("GET", f"{self.path}/subscriptions/{row['id']}", expect=200)["status"]

    def errors(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        query = f"/logs?log_type=error&operation=failed_to_deliver_event&subscription_id={row['id']}"
        return self.client.call("GET", query, expect=200)["items"]


@pytest.fixture
def app(serve: Child) -> Iterator[App]:
    app = App(serve.url)
    yield app
    app.client.call("DELETE", app.path)


def kafka_config(kafka: KafkaBroker, **changes: Any) -> dict[str, Any]:
    sasl = {"mechanism": "scram", "scram_variant": "sha-256"}
    credentials = {"username": kafka.says["username"], "password": kafka.says["password"]}
    return {
        "broker": kafka.bootstrap("sasl_ssl"),
        "topic": kafka.topic,
        "sasl_auth": sasl | credentials,
        "tls": {
            "server_name": "kafka.test",
            "ca_pem": kafka.pem("ca"),
            "client_cert_pem": kafka.pem("client_cert"),
            "client_key_pem": kafka.pem("client_key"),
        },
        "headers": HEADERS,
    } | changes


async def test_an_event_gets_to_a_kafka_topic_and_no_secret_is_shown(
    folder: Path, serve: Child, app: App, kafka: KafkaBroker
) -> None:
    config = kafka_config(kafka)
    row = app.subscribe("kafka", config)
    assert row["type"] == "kafka"
    assert row["config"] == config | {
        "sasl_auth": config["sasl_auth"] | {"password": REDACTED},
        "tls": config["tls"] | {"client_key_pem": REDACTED},
        "headers": {"X-Stage": REDACTED},
    }
    sent = event()
    async with kafka.consumed() as consumer:
        assert send_events(serve.url, INGEST_KEY, sent) == 202
        record = await asyncio.wait_for(consumer.getone(), 60)
    body = orjson.loads(record.value or b"")
    assert (body["id"], body["subject"], body["data"]) == (sent["id"], row["id"], sent["data"])
    assert record.key == sent["data"]["product"]["uuid"].encode()
    assert list(record.headers) == [("type", UPDATED.encode()), ("X-Stage", HEADERS["X-Stage"].encode())]
    status = orjson.loads(run("status", "--data", str(folder / "data"), "--json").out)
    assert kafka.topic in {each["destination"] for each in status}


def test_a_missing_topic_suspends_and_says_so(serve: Child, app: App, kafka: KafkaBroker) -> None:
    row = app.subscribe("kafka", kafka_config(kafka, topic="there.is.none"))
    assert send_events(serve.url, INGEST_KEY, event()) == 202
    until(lambda: app.status(row) == "suspended", "the suspension")
    (entry,) = app.errors(row)
    assert (entry["error_reason"], entry["error_code"]) == ("topic_not_found", 500)
    assert (entry["error_message"], entry["response"]) == ("there is no such topic", {})


def test_a_changed_config_keeps_what_was_hidden_unless_the_broker_changes(
    app: App, kafka: KafkaBroker
) -> None:
    row = app.subscribe("kafka", kafka_config(kafka))
    changed = app.change(row, {"config": row["config"] | {"topic": "other"}})
    assert changed["config"] == row["config"] | {"topic": "other"}
    moved = row["config"] | {"broker": "kafka.example.com:9093"}
    answer = app.change(row, {"config": moved}, expect=400)
    assert {error["field"] for error in answer["errors"]} == {
        "config.sasl_auth.password",
        "config.tls.client_key_pem",
        "config.headers.X-Stage",
    }
    assert all(PASSWORD_ANEW in error["message"] for error in answer["errors"])


def test_the_type_changes_along_with_a_config_for_it(app: App, kafka: KafkaBroker) -> None:
    https = {"url": "http://127.0.0.1:8/", "secret": {"primary": "a secret of sixteen"}}
    row = app.subscribe("https", https)
    answer = app.change(row, {"type": "kafka"}, expect=400)
    assert answer["errors"][0]["field"] == "config"
    assert app.change(row, {"type": "kafka", "config": kafka_config(kafka)})["type"] == "kafka"
    assert app.change(row, {"config": kafka_config(kafka, topic="other")})["config"]["topic"] == "other"
    back = app.change(row, {"type": "https", "config": https | {"headers": {}}})
    assert (back["type"], back["config"]["url"]) == ("https", https["url"])


def test_a_broker_in_a_private_network_is_refused_when_it_is_named(app: App) -> None:
    sasl = {"mechanism": "plain", "username": "u", "password": "p"}
    for broker in ("10.0.0.1:9092", "db.internal:9092", "[::ffff:10.0.0.1]:9092", "0x7f.1:9092"):
        config = {"broker": broker, "topic": "events", "sasl_auth": sasl}
        answer = app.subscribe("kafka", config, expect=400)
        assert [error["field"] for error in answer["errors"]] == ["config.broker"]


def test_pubsub_is_refused_where_it_is_not_set_up(app: App) -> None:
    answer = app.subscribe("pubsub", {"project_id": "their-project", "topic_id": "pim-events"}, expect=400)
    ((field, message),) = [(error["field"], error["message"]) for error in answer["errors"]]
    assert field == "type"
    assert "GOOGLE_APPLICATION_CREDENTIALS" in message


async def test_an_event_gets_to_a_pubsub_topic_and_a_missing_one_suspends(
    folder: Path, pubsub_host: str, tmp_path: Path
) -> None:
    project = Project(pubsub_host, f"test-{uuid.uuid4().hex[:20]}")
    await project.create_topic("pim-events")
    arguments = one_pim.arguments(folder, data=tmp_path / "data")
    with server(tmp_path, *arguments, settings={"PUBSUB_EMULATOR_HOST": pubsub_host}) as child:
        app = await asyncio.to_thread(App, child.url)
        config = {"project_id": project.name, "topic_id": "pim-events", "headers": HEADERS}
        row = await asyncio.to_thread(app.subscribe, "pubsub", config)
        gone = await asyncio.to_thread(app.subscribe, "pubsub", config | {"topic_id": "there-is-none"})
        sent = event()
        assert await asyncio.to_thread(send_events, child.url, INGEST_KEY, sent) == 202
        (message,) = await project.pull("pim-events", 1)
        assert dict(message.attributes) == {"type": UPDATED, **HEADERS}
        assert orjson.loads(message.data)["id"] == sent["id"]
        await asyncio.to_thread(until, lambda: app.status(gone) == "suspended", "the suspension")
        assert app.errors(gone)[0]["error_reason"] == "topic_not_found"
        assert app.status(row) == "active"
    await project.close()
