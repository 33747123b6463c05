"""Every kind of secret goes through a platform; none is in its store, its log, its answers or its lists."""

import base64
import io
import json
import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
import requests
import trustme

from event_platform.domain.tenants import tenant_key
from support import one_pim
from support.aep_here import run
from support.processes import (
    Child,
    Client,
    SimulatedPim,
    command,
    delivered,
    http,
    ready,
    send_events,
    server,
    signature,
    until,
    with_metrics,
)
from support.records import UPDATED

CALLER_KEYS = ("ingest_key", "relay_secret")
PASSWORD = "a p@ssword/of-the+mail-server"


@dataclass
class Run:
    """What a run was given as secrets, by their kinds, and all that it showed."""

    folder: Path
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    shown: dict[str, str] = field(default_factory=dict[str, str])

    def secret(self, kind: str) -> str:
        """A new one of that kind, with characters that every encoding writes in its own way."""
        self.secrets[kind] = f'{kind}-{uuid.uuid4().hex}-\u00e9-"quoted"/+'
        return self.secrets[kind]

    def printable(self, kind: str) -> str:
        """The same for where only ASCII fits, as in a header."""
        self.secrets[kind] = f"{kind}-{uuid.uuid4().hex}"
        return self.secrets[kind]

    def answer(self, response: requests.Response) -> requests.Response:
        self.shown[f"answer {len(self.shown)}"] = response.text + str(response.headers)
        return response

    def found(self) -> set[tuple[str, str]]:
        """Which kinds of secrets are to be seen where."""
        return {
            (kind, where)
            for kind, secret in self.secrets.items()
            for where, text in self.shown.items()
            if any(form in text for form in forms_of(secret))
        }


def forms_of(secret: str) -> Iterable[str]:
    """A secret as it may be written: plain, escaped as in JSON or a URL, in base64 at any offset."""
    yield from (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1])
    yield orjson.dumps(secret).decode()[1:-1]
    for offset in range(3):
        inside = base64.b64encode(b" " * offset + secret.encode())[4:-4].decode()
        yield from (inside, inside.translate(str.maketrans("+/", "-_")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("secrets")
    done = Run(folder)
    data = folder / "data"
    with ExitStack() as stack:
        sim = ready(stack.enter_context(command(folder, "sim", "--port", "0")))
        inbox = ready(stack.enter_context(command(folder, "inbox", "--quiet", "--port", "0")))
        keys = add_pims(done, stack, sim, data)
        password = quote(PASSWORD, safe="")
        done.secrets["smtp_password"] = PASSWORD
        done.secrets["smtp_password_in_url"] = password
        settings = {
            "AEP_SMTP_URL": f"smtp://user:{password}@127.0.0.1:1",  # nobody is there, which is logged
            "AEP_MAIL_FROM": "events@example.com",
            "AEP_LOG_LEVEL": "debug",
            **with_metrics(),
        }
        serve = stack.enter_context(server(folder, "serve", "--dev", "--data", str(data), settings=settings))
        use(done, serve, sim, inbox, keys)
        done.shown["metrics"] = http().get(serve.metrics, timeout=5).text
        for arguments in (("logs", "--json"), ("status", "--json"), ("pims", "list", "--json"), ("doctor",)):
            ended = run(*arguments, "--data", str(data), settings=settings)
            done.shown[" ".join(arguments)] = ended.out + ended.err
        dump(done, data)
    done.shown["log"] = serve.stderr() + serve.stdout()
    dump(done, data)
    done.shown["the sim's log"], done.shown["the inbox's log"] = sim.stderr(), inbox.stderr()
    return done


def add_pims(done: Run, stack: ExitStack, sim: Child, data: Path) -> dict[str, str]:
    """One PIM whose tokens are asked about, one with platform keys; what the commands made for them."""
    known: dict[str, str] = {}
    secret = done.printable("events_api_secret")
    arguments = ("pims", "add", sim.url, "--data", str(data), "--json", "--events-api-secret", "-")
    stack.enter_context(pytest.MonkeyPatch.context()).setattr("sys.stdin", io.StringIO(f"{secret}\n"))
    added = orjson.loads(run(*arguments, settings={"AEP_DEV": "true"}).out)
    known |= {name: added[name] for name in CALLER_KEYS}
    ended = run("pims", "add", one_pim.PIM, "--auth", "platform-key", "--data", str(data), "--json")
    known |= {f"{name} of the other": orjson.loads(ended.out)[name] for name in CALLER_KEYS}
    ended = run("pims", "client", one_pim.PIM, "erp", "--data", str(data), "--json")
    known["platform_key"] = orjson.loads(ended.out)["key"]
    done.secrets |= known
    return known


def use(done: Run, serve: Child, sim: Child, inbox: Child, keys: dict[str, str]) -> None:
    """Everything that takes a secret, rightly and wrongly."""
    pim = SimulatedPim(sim.url)
    client = pim.client(serve.url)
    done.secrets["token"] = client.token
    subscriber, subscription = subscribe(done, client, inbox)
    broker = subscribe_broker(done, client, subscriber)
    event = one_pim.event()
    assert send_events(serve.url, keys["ingest_key"], event) == 202
    came = delivered(inbox.url, "/ok", event["id"])
    assert came["headers"]["x-api-key"] == done.secrets["header"]
    event = one_pim.event()
    relayed = orjson.dumps({"specversion": "1.0", "time": datetime.now(UTC).isoformat()} | event)
    path = f"{serve.url}/ingest/relay/{tenant_key(sim.url)}"
    signed = {"X-AKENEO-SIGNATURE-PRIMARY": signature(keys["relay_secret"], relayed)}
    assert done.answer(http().post(path, relayed, headers=signed, timeout=5)).status_code == 202
    delivered(inbox.url, "/ok", event["id"])
    misuse(done, serve, client, f"/subscribers/{subscriber}", f"/subscriptions/{subscription}")
    done.answer(client.call("GET", f"/subscribers/{subscriber}/subscriptions/{broker}"))
    until(lambda: broker in serve.stderr(), "the failed attempt at the broker in the log")
    keyed = Client(serve.url, one_pim.PIM, keys["platform_key"], "erp")
    assert done.answer(keyed.call("GET", "/subscribers")).status_code == 200
    until(lambda: "mail" in serve.stderr(), "the notification's failure in the log")


def subscribe(done: Run, client: Client, inbox: Child) -> tuple[str, str]:
    contact = {
        "technical_email": "ops@example.com",
        "notification_channels": ["email", "webhook"],
        "notification_webhook_url": f"{inbox.url}/told",
        "notification_webhook_secret": done.secret("webhook_secret"),
    }
    made = done.answer(client.call("POST", "/subscribers", {"name": "ERP", "contact": contact}))
    config = {
        "url": f"{inbox.url}/ok",
        "secret": {"primary": done.secret("primary"), "secondary": done.secret("secondary")},
        "headers": {"X-Api-Key": done.printable("header")},
    }
    body = {"events": [UPDATED], "type": "https", "config": config}
    path = f"/subscribers/{made.json()['id']}/subscriptions"
    return made.json()["id"], done.answer(client.call("POST", path, body, expect=None)).json()["id"]


def subscribe_broker(done: Run, client: Client, subscriber: str) -> str:
    """A Kafka destination where nobody listens: each event fails to connect, which is told in the log."""
    issued = trustme.CA().issue_cert("kafka.test")
    key, certificate = issued.private_key_pem.bytes().decode(), issued.cert_chain_pems[0].bytes().decode()
    done.secrets["client_key"] = key.splitlines()[1]
    config = {
        "broker": "127.0.0.1:1",
        "topic": "events",
        "sasl_auth": {"mechanism": "plain", "username": "erp", "password": done.secret("kafka_password")},
        "tls": {
            "server_name": "kafka.test",
            "ca_pem": certificate,
            "client_cert_pem": certificate,
            "client_key_pem": key,
        },
        "headers": {"X-Api-Key": done.printable("kafka_header")},
    }
    body = {"events": [UPDATED], "type": "kafka", "config": config}
    made = done.answer(client.call("POST", f"/subscribers/{subscriber}/subscriptions", body, expect=None))
    assert made.status_code == 201
    return made.json()["id"]


def misuse(done: Run, serve: Child, client: Client, subscriber: str, subscription: str) -> None:
    """Secrets where none belongs, or in what is refused: the log of refused calls has their bodies."""
    path = subscriber + subscription
    misplaced = done.printable("misplaced")
    for body in (
        {"config": {"secret": {"primary": done.secret("refused_primary")}, "url": "no URL"}},
        {"config": {"headers": {"X-Api-Key": done.secret("refused_header"), "Host": misplaced}}},
        {"config": {"secrets": misplaced, "sasl_auth": {"password": done.secret("sasl_password")}}},
        [misplaced],
    ):
        assert done.answer(client.call("PATCH", path, body)).status_code in (200, 400)
    for verb in ("suspend", "resume", "suspend"):
        done.answer(client.call("POST", f"{path}/{verb}"))
    done.answer(client.call("GET", subscriber))
    done.answer(client.call("GET", path))
    done.answer(client.call("GET", "/logs"))
    wrong = Client(serve.url, client.pim, done.printable("wrong_token"), client.client_id)
    assert done.answer(wrong.call("GET", "/subscribers")).status_code == 401
    key = {"Authorization": f"Bearer {done.printable('wrong_ingest_key')}"}
    assert done.answer(http().post(f"{serve.url}/ingest", b"{}", headers=key, timeout=5)).status_code == 401


def dump(done: Run, data: Path) -> None:
    """The store: its bytes, and what is in its tables with whatever is packed in there."""
    for file in data.glob("aep.db*"):
        done.shown[file.name] = file.read_bytes().decode("latin-1")
        done.shown[f"{file.name} in UTF-8"] = file.read_bytes().decode(errors="replace")
    with closing(sqlite3.connect(f"file:{data / 'aep.db'}?mode=ro", uri=True)) as connection:
        done.shown["tables"] = "\n".join(connection.iterdump())


def test_every_kind_of_secret_was_there(whole: Run) -> None:
    assert {
        "primary",
        "secondary",
        "header",
        "kafka_password",
        "kafka_header",
        "client_key",
        "webhook_secret",
        "ingest_key",
        "relay_secret",
        "events_api_secret",
        "platform_key",
        "token",
        "smtp_password",
    } <= set(whole.secrets)
    assert "mail" in whole.shown["log"]
    assert "X-Api-Key" in whole.shown["tables"]


def test_no_secret_is_in_the_store_the_log_an_answer_or_a_list(whole: Run) -> None:
    assert whole.found() == set()


def test_what_is_looked_for_would_be_found(whole: Run) -> None:
    for kind, secret in whole.secrets.items():
        for form in (
            secret,
            json.dumps([secret]),
            base64.b64encode(b"xx" + secret.encode() + b"yyyy").decode(),
        ):
            assert any(each in form for each in forms_of(secret)), kind
