"""What each function is told by its environment, and how a wrong value stops its start."""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from structlog.testing import capture_logs

from aep.cli import options
from event_platform import __version__, wiring
from event_platform.settings import (
    DeliverSettings,
    FanoutSettings,
    FunctionSettings,
    ManageSettings,
    Settings,
)
from support import asgi

KEY = base64.b64encode(bytes(32)).decode()
GOOD = {
    "GOOGLE_CLOUD_PROJECT": "project",
    "AEP_SECRETS_KEY": KEY,
    "AEP_REGISTRY_KEY": KEY,
    "AEP_PUBLIC_URL": "https://events.example.com",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AEP_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("function", wiring.SETTINGS)
def test_a_function_starts_with_what_it_needs(function: str) -> None:
    wiring.check(function)


def test_the_public_url_may_have_a_host_of_one_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEP_PUBLIC_URL", "http://a")
    assert Settings().public_url == "http://a"
    for nothing in ("http://", "http:///a", "http://a/", "a"):
        monkeypatch.setenv("AEP_PUBLIC_URL", nothing)
        with pytest.raises(ValidationError, match="must begin with https"):
            Settings()


def test_googles_front_end_is_the_one_proxy_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ManageSettings().trusted_proxies == 1  # pyright: ignore[reportCallIssue] - from the environment
    assert Settings().trusted_proxies == 0
    monkeypatch.setenv("AEP_TRUSTED_PROXIES", "-1")
    with pytest.raises(wiring.WrongSettings, match="AEP_TRUSTED_PROXIES"):
        wiring.check("ingest")


@pytest.mark.parametrize("function", wiring.SETTINGS)
def test_a_function_needs_only_the_keys_of_what_it_reads(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"manage": "AEP_SECRETS_KEY", "deliver": "AEP_SECRETS_KEY", "notify": "AEP_SECRETS_KEY"}
    needed |= {"ingest": "AEP_REGISTRY_KEY"}
    for variable in {"AEP_SECRETS_KEY", "AEP_REGISTRY_KEY"} - {needed.get(function)}:
        monkeypatch.delenv(variable)
    wiring.check(function)
    if function in needed:
        monkeypatch.delenv(needed[function])
        with pytest.raises(wiring.WrongSettings, match=needed[function]):
            wiring.check(function)


@pytest.mark.parametrize(
    ("function", "wrong", "told"),
    [
        ("notify", {"GOOGLE_CLOUD_PROJECT": ""}, "GOOGLE_CLOUD_PROJECT: .* at least 1 character"),
        ("notify", {"AEP_SMTP_URL": "mail.example.com"}, "AEP_SMTP_URL: must be smtp://"),
        ("notify", {"AEP_SMTP_URL": "smtp://mail"}, "AEP_MAIL_FROM: must be set with AEP_SMTP_URL"),
        ("notify", {"AEP_MAIL_FROM": "the operator"}, "AEP_MAIL_FROM: must be an e-mail address"),
        ("deliver", {"AEP_SECRETS_KEY": "c2VjcmV0"}, "AEP_SECRETS_KEY must be the base64 of 32 random bytes"),
        ("ingest", {"AEP_REGISTRY_KEY": "c2VjcmV0"}, "AEP_REGISTRY_KEY must be the base64 of 32 random"),
        ("deliver", {"AEP_RETRY_DELAYS": "5,soon"}, "AEP_RETRY_DELAYS: entry 2 must be seconds as in"),
        (
            "deliver",
            {"AEP_ALLOW_NETWORKS": "10.20.30.40/8"},
            "AEP_ALLOW_NETWORKS: entry 1 must be a network such as",
        ),
        ("manage", {"AEP_ALLOW_NETWORKS": "inside"}, "AEP_ALLOW_NETWORKS: entry 1 must be a network such as"),
        ("fanout", {"AEP_PUBLIC_URL": "events"}, "AEP_PUBLIC_URL: must begin with https"),
        ("deliver", {"AEP_AWAIT_NETWORK": "192.0.2.1"}, "AEP_AWAIT_NETWORK: entry 1 must be host:port"),
        ("notify", {"AEP_AWAIT_NETWORK": "192.0.2.1:99999"}, "AEP_AWAIT_NETWORK: entry 1 must be host:port"),
        ("ingest", {"AEP_TOPIC_EVENTS": "no/topic"}, "AEP_TOPIC_EVENTS: must be letters"),
        (
            "manage",
            {"AEP_PIMS": '[{"url": "https://pim.example.com", "key": 7}]'},
            "AEP_PIMS: entry 1, key: must be a string",
        ),
        ("manage", {"AEP_PIMS": '[{"url": "https://pim.example.com"'}, "AEP_PIMS: is not JSON at line 1"),
        (
            "ingest",
            {"AEP_PIMS": '[{"url": "https://pim.example.com", "ingest_key": "\u2026"}]'},
            r"AEP_PIMS: entry 1, ingest_key, entry 1: must have at least 16 printable ASCII characters",
        ),
    ],
)
def test_a_wrong_value_stops_the_start_with_the_name_of_the_variable(
    function: str, wrong: Mapping[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(wiring.WrongSettings, match=told):
        wiring.check(function)


@pytest.mark.parametrize("function", ["manage", "ingest", "fanout"])
def test_a_wrong_event_type_stops_the_start_with_its_place(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEP_EVENT_TYPES", '[{"type": "com.example.order"}]')
    with pytest.raises(wiring.WrongSettings, match=r"^aep: AEP_EVENT_TYPES: entry 1, trigger: is required$"):
        wiring.check(function)


def test_pims_are_listed_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEP_PIMS", '[{"url": "https://pim.example.com"}]')
    (pim,) = FanoutSettings().pims  # pyright: ignore[reportCallIssue] - from the environment
    assert pim.url == "https://pim.example.com"


@pytest.mark.parametrize(
    ("pims", "named"),
    [
        (
            '[{"url": "http://pim.example.com"}]',
            "entry 1, http://pim.example.com: .*must begin with https://",
        ),
        ('[{"url": "https://a.example"}, {"url": "https://A.example/"}]', "entry 2, url: .*as in entry 1"),
        ('[{"url": "https://a.example", "key": "x"}, {"url": "https://b.example", "key": "x"}]', "2, key: "),
    ],
)
def test_a_list_of_pims_that_no_machine_would_take_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, pims: str, named: str
) -> None:
    monkeypatch.setenv("AEP_PIMS", pims)
    with pytest.raises(wiring.WrongSettings, match=f"^aep: AEP_PIMS: .*{named}"):
        wiring.check("fanout")


def test_networks_are_opened_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEP_ALLOW_NETWORKS", "10.20.0.0/16, fd12::/16")
    monkeypatch.setenv("AEP_REFUSE_NETWORKS", "198.35.26.0/23")
    opened = (ip_network("10.20.0.0/16"), ip_network("fd12::/16"))
    assert DeliverSettings().allow_networks == opened  # pyright: ignore[reportCallIssue] - from the environment
    assert Settings().allow_networks == opened
    closed = (ip_network("198.35.26.0/23"),)
    assert DeliverSettings().refuse_networks == closed  # pyright: ignore[reportCallIssue] - from the environment
    assert Settings().refuse_networks == closed
    monkeypatch.delenv("AEP_ALLOW_NETWORKS")
    assert Settings().allow_networks == ()


@pytest.mark.parametrize("function", wiring.SETTINGS)
async def test_each_function_tells_what_was_deployed(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring.telemetry, "configure", lambda level, first: None)
    monkeypatch.setenv("AEP_ARCHIVE", "functions-0123456789abcdef.zip")
    app = wiring._app(wiring.SETTINGS[function](), [])  # pyright: ignore[reportCallIssue]
    sent = await asgi.get(app, "/health")
    assert orjson.loads(sent) == {
        "status": "ok",
        "version": __version__,
        "archive": "functions-0123456789abcdef.zip",
    }


@pytest.mark.parametrize("packed", ["functions-old.zip", "functions-new.zip", None])
def test_code_of_another_archive_does_not_start(
    packed: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that after a build that failed nothing tells of the new archive while the old code runs."""
    name = tmp_path / "archive.txt"
    if packed:
        name.write_text(packed)
    monkeypatch.setattr("event_platform.settings.PACKED_AS", name)
    monkeypatch.setenv("AEP_ARCHIVE", "functions-new.zip")
    if packed == "functions-old.zip":
        with pytest.raises(SystemExit) as ended:
            wiring.check("maintain")
        assert "AEP_ARCHIVE: must be functions-old.zip, from which this code is" in str(ended.value)
    else:
        wiring.check("maintain")


@pytest.mark.parametrize(
    ("heading", "models"),
    [("## On one machine", [Settings]), ("## On Google Cloud", [*wiring.SETTINGS.values()])],
)
def test_every_setting_is_on_the_page(heading: str, models: Sequence[type[BaseSettings]]) -> None:
    names = {
        str(field.validation_alias or f"AEP_{name.upper()}")
        for model in models
        for name, field in model.model_fields.items()
    }
    page = Path(__file__).parents[2].joinpath("docs", "settings.md").read_text()
    section = page.partition(heading)[2].partition("\n## ")[0]
    assert len(names) > 15
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []


@pytest.mark.provokes("settings.unknown_variable")
def test_a_misspelt_variable_is_named_at_start_with_the_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring.telemetry, "configure", lambda level, first: None)
    monkeypatch.setenv("AEP_LOG_LEVL", "a-secret-perhaps")
    monkeypatch.setenv("AEP_DEV", "false")
    with capture_logs() as lines:
        wiring._app(FunctionSettings(), [])  # pyright: ignore[reportCallIssue] - from the environment
    named = [line for line in lines if line["event"] == "settings.unknown_variable"]
    assert [(line["variable"], line["nearest"]) for line in named] == [("AEP_LOG_LEVL", "AEP_LOG_LEVEL")]
    assert "a-secret-perhaps" not in str(lines)


def test_every_variable_that_the_pages_name_is_known() -> None:
    repository = Path(__file__).parents[2]
    pages = [*repository.glob("*.md"), *repository.joinpath("docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"\bAEP_[A-Z_]+\b", page.read_text())}
    assert len(named) > 25
    assert options.unknown_variables(dict.fromkeys(named, "")) == {}


def test_new_subscriptions_catch_up_only_where_events_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"GOOGLE_CLOUD_PROJECT": "p", "AEP_SECRETS_KEY": "k", "AEP_CATCH_UP": "true"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ManageSettings().catch_up  # pyright: ignore[reportCallIssue] - from the environment
    monkeypatch.setenv("AEP_KEEP", "0")
    with pytest.raises(ValidationError, match="needs AEP_KEEP"):
        ManageSettings()  # pyright: ignore[reportCallIssue] - from the environment
