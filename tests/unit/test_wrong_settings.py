"""The answer to a wrong value of each setting of docs/settings.md: the variable, the entry, what was given
and what is expected. The value of one that may hold secrets is never shown.
"""

import os
import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from aep.cli import options
from event_platform import settings, wiring
from event_platform.domain.validation_words import words_of
from support.aep_here import run
from support.plain_words import faults_of

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
NO_FORM = words_of({"type": "a kind that nobody knows"})
UNKNOWN_PATTERN = words_of({"type": "string_pattern_mismatch", "ctx": {"pattern": "unknown"}})
HIDDEN = "the-secret-part"
ORDER = '{"type": "com.example.order", "trigger": "A.", "identity": [], "schema": {}, "example": {}}'
WRONG = {
    "AEP_PIMS": [
        (f'[{{"url": "https://pim.example.com"}}, {{"url": "{HIDDEN}"}}]', "entry 2: must begin with https"),
        ('[{"url": "https://pim.example.com", "ingest_key": [7]}]', "entry 1, ingest_key, entry 1: "),
        ('[{"url": "https://pim.example.com", "auth": "x"}]', "entry 1, auth: must be 'token-info'"),
    ],
    "AEP_EVENT_TYPES": [
        (f"[{ORDER}, {ORDER}]", "entry 2, com.example.order"),
        ('[{"type": "com.example.order"}]', "entry 1, trigger: is required"),
        ("/nowhere", "cannot be read: No such file or directory (it is /nowhere)"),
    ],
    "AEP_RETRY_DELAYS": [
        ("0", "entry 1 must be seconds as in 300,600,1200, above 0 and at most 31 days (it is 0)"),
        ("5, soon", "entry 2 must be seconds as in 300,600,1200, above 0 and at most 31 days (it is soon)"),
        ("5;10", "(it is 5;10)"),
    ],
    "AEP_ALLOW_NETWORKS": [("10.0.0.0/8,inside", "entry 2 must be a network such as 10.20.0.0/16")],
    "AEP_REFUSE_NETWORKS": [("10.0.0.1/8", "entry 1 must be a network such as"), ("x", "(it is x)")],
    "AEP_AWAIT_NETWORK": [
        ("1.1.1.1:443,1.1.1.1", "entry 2 must be host:port, such as 1.1.1.1:443 (it is 1.1.1.1)"),
        (",".join(["1.1.1.1:443"] * 11), "must be at most 10 of host:port"),
    ],
    "AEP_DEV": [("maybe", "must be true or false (it is maybe)"), ("", "(it is '')")],
    "AEP_FEEDS": [("maybe", "must be true or false (it is maybe)")],
    "AEP_APP_CONSOLE": [("maybe", "must be true or false")],
    "AEP_CATCH_UP": [("maybe", "must be true or false")],
    "AEP_RATE_MIN": [("0", "must be greater than 0 (it is 0)")],
    "AEP_RATE_MAX": [("fast", "must be a number (it is fast)")],
    "AEP_TIMEOUT": [("1e9", "(it is 1e9)"), ("-1", "must be greater than 0 (it is -1)")],
    "AEP_MAX_AGE": [("9999999999", "must be at most 2678400 (it is 9999999999)")],
    "AEP_TRUSTED_PROXIES": [("99", "must be at most 16 (it is 99)")],
    "AEP_CONNECTIONS": [("1", "must be at least 16 (it is 1)")],
    "AEP_KEEP": [("-1", "2678400 seconds"), ("long", "number (it is long)")],
    "AEP_KEEP_BYTES": [("1KB", "as in 20GiB: 16MiB to 1024TiB (it is 1KB)")],
    "AEP_LOG_LEVEL": [("loud", "must be 'debug', 'info', 'warning' or 'error' (it is loud)")],
    "AEP_LOG_FORMAT": [("xml", "must be 'json' or 'text' (it is xml)")],
    "AEP_PUBLIC_URL": [("events", "must begin with https:// or http://")],
    "AEP_CONSOLE_URL": [("https://aep.example.com/x", "with a host and no path")],
    "AEP_FANOUT_URL": [("events", "must begin with https://"), (f"https://u:{HIDDEN}@x?y", "must begin")],
    "AEP_SMTP_URL": [(HIDDEN, "must be smtp://")],
    "AEP_MAIL_FROM": [("operator", "must be an e-mail address, such as events@example.com (it is operator)")],
    "AEP_DESTINATION_ACCOUNT": [("name", "must be a service account, such as")],
    "AEP_FANOUT_CALLER": [("name", "must be a service account, such as")],
    "AEP_ARCHIVE": [("a b", "must be printable ASCII characters without spaces (it is a b)")],
    "AEP_TOPIC_EVENTS": [("a/b/c", "must be letters, digits and"), ("x", "must have at least 3 characters")],
    "AEP_DELIVERIES_SHARDS": [("0", "must be at least 1 (it is 0)")],
    "AEP_VERSION_BUCKETS": [("65", "must be at most 64 (it is 65)")],
    "GOOGLE_CLOUD_PROJECT": [("", "must have at least 1 character")],
    "AEP_SECRETS_KEY": [(HIDDEN, "must be the base64 of 32 random bytes")],
    "AEP_REGISTRY_KEY": [(HIDDEN, "must be the base64 of 32 random bytes")],
    "AEP_FEED_KEY": [(HIDDEN, "must be the base64 of 32 random bytes")],
}
OF_THE_COMMAND = {
    "AEP_WORKERS": ("many", "AEP_WORKERS=many: must be a whole number"),
    "AEP_METRICS_PORT": ("70000", "AEP_METRICS_PORT=70000: must be 0 to 65535"),
    "AEP_CONSOLE_PORT": ("x", "AEP_CONSOLE_PORT=x: must be a whole number"),
    "AEP_CONSOLE_HOST": ("nowhere.example.com", ""),
    "AEP_DATA": ("{file}/data", "is no folder: {file} is a file"),
}
"""Those that are options of `aep serve`. A host is looked up only when it listens there."""
READ_LATER = {"AEP_PIMS", "AEP_SECRETS_KEY"}
"""Those that `aep serve` reads when it starts, and other settings before."""


def variables_of_the_page() -> set[str]:
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}


def test_each_setting_of_the_page_is_tried() -> None:
    assert variables_of_the_page() == {*WRONG, *OF_THE_COMMAND}


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    key = "A" * 43 + "="
    for name in [name for name in os.environ if name.startswith("AEP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
    monkeypatch.setenv("AEP_PUBLIC_URL", "https://events.example.com")
    for name in ("AEP_SECRETS_KEY", "AEP_REGISTRY_KEY"):
        monkeypatch.setenv(name, key)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "said"), [(name, *each) for name, table in WRONG.items() for each in table]
)
def test_a_wrong_setting_is_named_with_what_it_has_and_what_is_expected(
    name: str, value: str, said: str, good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good.setenv(name, value)
    texts: list[str] = []
    for function, model in wiring.SETTINGS.items():
        if name in names_of(model):
            with pytest.raises(wiring.WrongSettings) as ended:
                wiring.check(function)
            texts.append(str(ended.value))
    if name in names_of(settings.Settings) - READ_LATER:
        with pytest.raises(SystemExit):
            options.settings()
        texts.append(capsys.readouterr().err.rstrip("\n"))
    assert texts
    assert any(said in text for text in texts), texts
    for text in texts:
        assert text.startswith(f"aep: {name}"), text
        assert "\n" not in text
        assert NO_FORM not in text
        assert UNKNOWN_PATTERN not in text
        assert HIDDEN not in text
        assert faults_of(text) == []


def names_of(model: type[BaseSettings]) -> set[str]:
    fields = model.model_fields.items()
    return {str(field.validation_alias or settings.PREFIX + name.upper()) for name, field in fields}


@pytest.mark.parametrize("name", OF_THE_COMMAND)
def test_a_wrong_variable_of_the_command_is_named(name: str, tmp_path: Path) -> None:
    value, said = OF_THE_COMMAND[name]
    if not said:
        return
    file = tmp_path / "file"
    file.touch()
    ended = run("serve", settings={name: value.format(file=file)})
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert said.format(file=file) in ended.err


@pytest.mark.parametrize(
    ("source", "said"),
    [("/nowhere", "--event-types /nowhere: the list of event types cannot be read"), ("[7]", ": entry 1: ")],
)
def test_a_wrong_list_of_event_types_is_named_by_what_named_it(source: str, said: str) -> None:
    assert said in run("serve", "--event-types", source).err
    assert run("serve", settings={"AEP_EVENT_TYPES": source}).err.startswith("aep: AEP_EVENT_TYPES")
