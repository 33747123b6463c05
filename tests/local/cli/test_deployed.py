"""`aep doctor --deployed`: a platform seen from outside, and what it leaves behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from aep.doctor import deployed
from event_platform import __version__
from support import one_pim
from support.aep_here import Ended, run
from support.processes import Child, free_port, server
from support.servers import OK, answers, serve

CLIENT = {
    "AEP_PIM_URL": one_pim.PIM,
    "AEP_PIM_CLIENT_ID": "erp",
    "AEP_PIM_TOKEN": one_pim.CLIENT_KEY,
    "AEP_INGEST_KEY": one_pim.INGEST_KEY,
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One that tries again soon, since each test makes its own subscriptions on it."""
    folder = tmp_path_factory.mktemp("platform")
    with one_pim.serve(folder, settings={"AEP_RETRY_DELAYS": "0.5"}) as serve:
        yield serve


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with server(tmp_path_factory.mktemp("inbox"), "inbox") as child:
        yield child


def ask(url: str, *arguments: str, **settings: str) -> tuple[Ended, dict[str, dict[str, Any]]]:
    """How it ended, and its checks by their names."""
    ended = run("doctor", "--deployed", url, "--json", *arguments, settings=settings)
    return ended, {check["name"]: check for check in orjson.loads(ended.out)}


def through(inbox: Child) -> tuple[str, ...]:
    return ("--endpoint", inbox.url, "--email", "ops@example.com")


def states(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["state"] for name, check in checks.items()}


def test_an_event_goes_through_with_its_retry_and_nothing_is_left(platform: Child, inbox: Child) -> None:
    ended, checks = ask(platform.url, *through(inbox), **CLIENT)
    assert states(checks) == {
        "tls": "missing",
        **dict.fromkeys(["manage", "openapi", "strangers", "ingest", "client", "endpoint"], "ok"),
        **dict.fromkeys(["test", "an event", "suspension", "notification", "a retry", "clean-up"], "ok"),
    }
    assert ended.status == 0
    assert one_pim.client_of(platform).call("GET", "/subscribers", expect=200) == []


async def test_its_requests_name_the_program_and_its_version() -> None:
    async with serve(answers(OK)) as elsewhere:
        checks = deployed.everything(elsewhere.url(""), deployed.Credentials(), None, retry_within=1.0)
        assert "problem" in [check.state async for check in checks]
    request = elsewhere.requests[0].decode()
    assert f"User-Agent: akeneo-event-platform/{__version__}\r\n" in request


def test_without_credentials_it_says_what_to_set(platform: Child) -> None:
    ended = run("doctor", "--deployed", platform.url)
    assert ended.status == 0
    lines = {line[9:29].strip(): line for line in ended.out.splitlines()}
    assert list(lines) == ["tls", "manage", "openapi", "strangers", "ingest", "client"]
    assert "AEP_INGEST_KEY" in lines["ingest"]
    assert lines["client"].startswith("missing")
    assert "AEP_PIM_TOKEN" in lines["client"]


@pytest.mark.parametrize(
    ("wrong", "name", "said"),
    [
        ({"AEP_INGEST_KEY": "a wrong key"}, "ingest", "AEP_INGEST_KEY"),
        ({"AEP_INGEST_URL": "URL/elsewhere"}, "ingest", "AEP_INGEST_URL"),
        ({"AEP_PIM_TOKEN": "a wrong token"}, "client", "answered 401"),
    ],
)
def test_what_is_wrong_is_named_and_ends_with_status_1(
    platform: Child, wrong: dict[str, str], name: str, said: str
) -> None:
    given = {key: value.replace("URL", platform.url) for key, value in wrong.items()}
    ended, checks = ask(platform.url, **CLIENT | given)
    assert ended.status == 1
    assert [each for each, state in states(checks).items() if state == "problem"] == [name]
    assert said in checks[name]["detail"]
    assert "a wrong" not in ended.out


def test_a_platform_that_is_not_there_is_one_problem() -> None:
    ended, checks = ask(f"http://127.0.0.1:{free_port()}", **CLIENT)
    assert ended.status == 1
    assert states(checks) == {"tls": "missing", "manage": "problem"}


def test_an_endpoint_must_be_an_inbox(platform: Child) -> None:
    ended, checks = ask(platform.url, "--endpoint", platform.url, "--email", "ops@example.com", **CLIENT)
    assert ended.status == 1
    assert "aep inbox" in checks["endpoint"]["detail"]
    assert "clean-up" not in checks


def test_a_retry_that_does_not_come_in_time_is_a_problem(tmp_path: Path, inbox: Child) -> None:
    with one_pim.serve(tmp_path) as slow:  # comes after 5 minutes
        ended, checks = ask(slow.url, *through(inbox), "--wait", "0", **CLIENT)
        assert one_pim.client_of(slow).call("GET", "/subscribers", expect=200) == []
    assert ended.status == 1
    assert [each for each, state in states(checks).items() if state == "problem"] == ["a retry"]


def test_an_inbox_that_refuses_is_told_and_nothing_is_left(platform: Child, tmp_path: Path) -> None:
    with server(tmp_path, "inbox", "--secret", "another secret of tests") as inbox:
        ended, checks = ask(platform.url, *through(inbox), **CLIENT)
    assert ended.status == 1
    assert checks["test"]["state"] == "problem"
    assert "401" in checks["test"]["detail"]
    assert "an event" not in checks
    assert one_pim.client_of(platform).call("GET", "/subscribers", expect=200) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--deployed", "events.example.com"), "give a base URL"),
        (("--deployed", "https://a.example", "--endpoint", "https://b.example"), "--email"),
        (("--email", "ops@example.com"), "--deployed"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    ended = run("doctor", *arguments)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert said in ended.err


def test_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = str(tmp_path / "server.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    tls = ("--tls-cert", pem, "--tls-key", pem, "--data", str(tmp_path / "data"))
    with server(tmp_path, "serve", *tls) as serve:
        ended, checks = ask(serve.url)
        assert ended.status == 1
        assert checks["tls"]["state"] == "problem"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        ended, checks = ask(serve.url)
    assert checks["tls"]["state"] == "ok", checks
    assert checks["manage"]["state"] == "ok", checks
    assert ended.status == 0
