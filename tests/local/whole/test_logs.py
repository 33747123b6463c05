"""What a whole run writes to its logs: JSON lines with event names, no secret, nothing of a payload."""

import base64
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from support.aep_here import run
from support.processes import Child, Client, SimulatedPim, http, received, send_events, server, until
from support.records import UPDATED

MARK = "payload-mark"
"""In every value of every event that the run sends."""

SECRETS = {
    "primary": "primary-secret-of-the-run",
    "secondary": "secondary-secret-of-the-run",
    "header": "value-of-a-custom-header-of-the-run",
    "webhook": "secret-of-the-notification-webhook",
    "wrong primary": "primary-secret-that-was-refused",
    "short": "s3cr3t-",
    "wrong token": "a-token-that-no-pim-knows",
    "wrong ingest key": "an-ingest-key-that-nobody-has",
    "client secret": "client-secret-of-the-simulated-pim",
    "password": "password-of-the-simulated-pim",
    "query": "a-key-in-the-query-of-an-endpoint",
    "encryption key": base64.b64encode(b"encryption key of the whole run!").decode(),
}


@dataclass
class Run:
    """All processes of the run, and what must not be in what they wrote."""

    folder: Path
    serve: Child
    pim: SimulatedPim
    inbox: str
    echo: str
    ingest_key: str
    secrets: dict[str, str]
    client: Client
    subscriptions: dict[str, str] = field(default_factory=dict)  # their paths, by endpoint
    sent: list[str] = field(default_factory=list)


@contextmanager
def echoing() -> Iterator[str]:
    """An endpoint that answers 400 with everything that it was sent, headers and body."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = str(self.headers).encode() + body + SECRETS["primary"].encode()
            self.send_response(400)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{endpoint.server_port}"
    endpoint.shutdown()
    endpoint.server_close()


def an_event(**data: Any) -> dict[str, Any]:
    product = {
        "uuid": str(uuid.uuid4()),
        "identifier": f"{MARK}-identifier",
        f"{MARK}-name": [f"{MARK}-value"],
    }
    author = {"identifier": f"{MARK}-author", "type": "user"}
    return {"id": str(uuid.uuid4()), "type": UPDATED, "data": {"product": product, "author": author} | data}


@pytest.fixture(scope="module")
def the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The platform at its most talkative, through everything that goes well and wrong, and its end."""
    folder = tmp_path_factory.mktemp("logs")
    settings = {
        "AEP_LOG_LEVEL": "debug",
        "AEP_RETRY_DELAYS": "0.2,0.3",
        "AEP_SECRETS_KEY": SECRETS["encryption key"],
    }
    with ExitStack() as stack:
        credentials = ("--secret", SECRETS["client secret"], "--password", SECRETS["password"])
        sim = stack.enter_context(server(folder, "sim", *credentials))
        verifying = ("--secret", SECRETS["primary"], "--secondary-secret", SECRETS["secondary"])
        inbox = stack.enter_context(server(folder, "inbox", *verifying))
        echo = stack.enter_context(echoing())
        added = run("pims", "add", sim.url, "--data", str(folder / "data"), "--json", settings=settings)
        issued = orjson.loads(added.out)
        serve = stack.enter_context(
            server(folder, "serve", "--dev", "--data", str(folder / "data"), settings=settings)
        )
        token = token_of(sim.url)
        secrets = SECRETS | {
            "token": token,
            "ingest key": issued["ingest_key"],
            "relay secret": issued["relay_secret"],
        }
        client = Client(serve.url, sim.url, token, "demo-client")
        pim = SimulatedPim(sim.url)
        the_run = Run(folder, serve, pim, inbox.url, echo, issued["ingest_key"], secrets, client)
        manage(the_run)
        ingest(the_run)
        deliver(the_run)
        talk_nonsense(the_run)
        for child in (serve, inbox, sim):
            assert child.stop() == 0
        yield the_run


def token_of(sim: str) -> str:
    basic = base64.b64encode(f"demo-client:{SECRETS['client secret']}".encode()).decode()
    answer = http().post(
        f"{sim}/api/oauth/v1/token",
        json={"grant_type": "password", "username": "demo-user", "password": SECRETS["password"]},
        headers={"Authorization": f"Basic {basic}"},
        timeout=10,
    )
    return answer.json()["access_token"]


def manage(the_run: Run) -> None:
    """Everything about subscriptions, with secrets in every place that has one, good and refused."""
    client = the_run.client
    contact = {
        "technical_email": "ops@example.com",
        "notification_webhook_url": "http://127.0.0.1:4/notify",
        "notification_webhook_secret": SECRETS["webhook"],
    }
    subscriber = client.call("POST", "/subscribers", {"name": "Logs", "contact": contact}, expect=201)
    path = f"/subscribers/{subscriber['id']}/subscriptions"
    endpoints = (
        f"{the_run.inbox}/good?key={SECRETS['query']}",
        *(f"{the_run.inbox}/{trouble}" for trouble in ("500", "404", "redirect", "429", "flaky")),
        f"{the_run.echo}/echo",
        f"http://127.0.0.1:4/refused?key={SECRETS['query']}",
        f"https://{the_run.inbox.removeprefix('http://')}/no-tls",
        f"https://no-such-name.invalid/?key={SECRETS['query']}",
    )
    for url in endpoints:
        created = client.call("POST", path, subscription(url), expect=201)
        the_run.subscriptions[url] = f"{path}/{created['id']}"
    refused = [
        subscription("nonsense" + SECRETS["query"]),
        subscription(endpoints[0], secret={"primary": SECRETS["short"] * 100}),
        subscription(endpoints[0], secret={"primary": [SECRETS["wrong primary"]]}),
        subscription(endpoints[0], headers={"X-Signature": SECRETS["header"], "": SECRETS["header"]}),
        subscription(endpoints[0]) | {"events": [SECRETS["wrong primary"]]},
        [SECRETS["wrong primary"]],
    ]
    for body in refused:
        assert client.call("POST", path, body).status_code == 400
    stranger = Client(client.base, client.pim, SECRETS["wrong token"], client.client_id)
    assert stranger.call("GET", "/subscribers").status_code == 401
    for trouble in (the_run.pim.without_permission(), the_run.pim.outage()):
        with trouble:
            other = Client(client.base, client.pim, SECRETS["wrong token"] + "-2", client.client_id)
            assert other.call("GET", "/subscribers").status_code in (401, 403, 503)
    assert http().get(f"{client.base}/api/v1/{quote(SECRETS['query'])}", timeout=10).status_code == 404


def subscription(url: str, **config: Any) -> dict[str, Any]:
    secret = {"primary": SECRETS["primary"], "secondary": SECRETS["secondary"]}
    own = {"url": url, "secret": secret, "headers": {"X-Key": SECRETS["header"]}}
    return {"events": [UPDATED], "type": "https", "config": own | config}


def ingest(the_run: Run) -> None:
    """Events that are taken and events that are refused, each marked."""
    events = [an_event() for _ in range(5)]
    assert send_events(the_run.serve.url, the_run.ingest_key, *events) == 202
    the_run.sent = [each["id"] for each in events]
    assert send_events(the_run.serve.url, SECRETS["wrong ingest key"], an_event()) == 401
    for wrong in (
        an_event(product=MARK),
        an_event(author={"identifier": MARK, "type": f"{MARK}-type"}),
        an_event() | {"type": f"{MARK}-type"},
        an_event() | {"time": f"{MARK}-time"},
        {MARK: MARK},
    ):
        assert send_events(the_run.serve.url, the_run.ingest_key, wrong) == 400
    for content_type in ("application/cloudevents+json", "application/json", f"text/{MARK}"):
        headers = {"Authorization": f"Bearer {the_run.ingest_key}", "Content-Type": content_type}
        answer = http().post(
            f"{the_run.serve.url}/ingest", data=f'{{"{MARK}": {MARK}'.encode(), headers=headers, timeout=10
        )
        assert answer.status_code in (400, 415)


def deliver(the_run: Run) -> None:
    """Until everything that can end has ended."""
    until(
        lambda: {each["id"] for each in received(the_run.inbox, "/good")} >= set(the_run.sent),
        "deliveries to the good endpoint",
    )
    the_run.client.call("DELETE", the_run.subscriptions[f"{the_run.inbox}/429"], expect=200)
    ended = (
        "delivery.ended",
        '"status":400',
        "connection_refused",
        "invalid_tls_handshake",
        "destination_not_found",
    )
    until(lambda: all(word in the_run.serve.stderr() for word in ended), "an end of each kind")
    until(lambda: the_run.serve.stderr().count('"attempt":3') >= 4, "last attempts")


def talk_nonsense(the_run: Run) -> None:
    """What is no HTTP, and a client that leaves in the middle of a body."""
    host, port = the_run.serve.url.removeprefix("http://").split(":")
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {the_run.ingest_key}\r\n"
    for text in (
        f"{MARK} {SECRETS['query']} \r\n\r\n",
        f"{head}X: {MARK * 4000}\r\n\r\n",
        f"{head}Content-Length: 999\r\n\r\n{MARK}",
    ):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)


def logs(the_run: Run) -> dict[str, str]:
    """The standard output and standard error of each process; the simulated PIM's output is no log:
    it says its credentials."""
    found = {
        file.name: file.read_text() for file in the_run.folder.glob("*.*") if file.suffix in (".out", ".err")
    }
    assert len(found) == 6
    return {name: text for name, text in found.items() if not fnmatch(name, "sim-*.out")}


def test_the_run_went_through_what_it_should(the_run: Run) -> None:
    """Or the next tests would find nothing because nothing happened."""
    events = [line["event"] for line in lines(the_run)]
    for name in ("pims.read", "events.accepted", "delivery.attempted", "delivery.ended"):
        assert name in events
    outcomes = {line.get("outcome") for line in lines(the_run)}
    assert outcomes >= {"delivered", "retryable", "suspending", "throttled"}


def test_no_log_holds_a_secret(the_run: Run) -> None:
    for file, text in logs(the_run).items():
        for what, secret in the_run.secrets.items():
            for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
                assert form not in text, f"the {what} is in {file}"


def test_no_log_holds_anything_of_a_payload(the_run: Run) -> None:
    for file, text in logs(the_run).items():
        assert MARK not in text, file


def test_every_line_after_the_warning_is_a_json_object_with_an_event_name(the_run: Run) -> None:
    first, *rest = the_run.serve.stderr().splitlines()
    assert first.startswith("WARNING: --dev ")
    assert len(rest) > 50
    for line in rest:
        entry = json.loads(line)
        assert entry["event"], line
        assert entry["severity"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")  # as Cloud Logging
        assert entry["timestamp"].endswith("Z")


def test_an_attempt_is_one_line_with_its_ids_and_what_came_of_it(the_run: Run) -> None:
    attempts = [line for line in lines(the_run) if line["event"] == "delivery.attempted"]
    assert {line["event_id"] for line in attempts} == set(the_run.sent)
    for line in attempts:
        assert line["subscription_id"]
        assert line["event_type"] == UPDATED
        assert line["milliseconds"] >= 0


def lines(the_run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in the_run.serve.stderr().splitlines() if line.startswith("{")]
