"""What a stack is told, and how a wrong key ends the run."""

from collections.abc import Mapping
from typing import Any

import pytest

from stack.settings import WrongConfiguration, read
from support.deployed import KEY, KEYS, REGISTRY_KEY, SECRETS, configuration

LEAST = {
    "gcp:project": "my-project",
    "gcp:region": "europe-west1",
    **KEYS,
}


def told(changed: Mapping[str, Any]) -> dict[str, Any]:
    """The least configuration with these keys changed; None leaves one out."""
    both = {**LEAST, **changed}
    return {key: value for key, value in both.items() if value is not None}


@pytest.mark.parametrize("stack", ["production", "minimal"])
def test_the_example_stacks_are_right(stack: str) -> None:
    settings = read(configuration(stack), secret=SECRETS)
    assert settings.project == "my-event-platform"


def test_four_keys_are_enough() -> None:
    settings = read(LEAST, secret=SECRETS)
    assert settings.topics_of_deliveries == 1
    assert settings.protect
    assert settings.domain is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gcp:project": None}, "gcp:project: must be set: `pulumi config set gcp:project`"),
        (
            {"event-platform:secretsKey": None},
            "event-platform:secretsKey: must be set: `pulumi config set --secret secretsKey`",
        ),
        ({"gcp:region": "Belgium"}, "gcp:region: .*match pattern"),
        ({"event-platform:secretsKey": "c2hvcnQ="}, "event-platform:secretsKey: must be the base64 of 32"),
        ({"event-platform:registryKey": None}, "registryKey: must be set: `pulumi config set --secret reg"),
        ({"event-platform:registryKey": "c2hvcnQ="}, "event-platform:registryKey: must be the base64 of 32"),
        ({"event-platform:registryKey": KEY}, "registryKey: must be another key than secretsKey"),
        ({"event-platform:registryKey": f"{KEY},{REGISTRY_KEY}"}, "must be another key than secretsKey"),
        ({"event-platform:pims": '[{"url": "ftp://pim"}]'}, "event-platform:pims"),
        (
            {"event-platform:pims": '[{"url": "https://p.example", "ingest_key": ["15 characters.."]}]'},
            r"event-platform:pims: .*entry 0, ingest_key\.0: must have at least 16 printable ASCII",
        ),
        ({"event-platform:deliveryShards": "2"}, "event-platform:deliveryShards: is no key"),
        ({"event-platform:deliveriesShards": "0"}, "event-platform:deliveriesShards: .*greater than or"),
        (
            {"event-platform:deliveriesShards": "4", "event-platform:deliveriesTopics": "2"},
            "event-platform:deliveriesTopics: must not be below deliveriesShards",
        ),
        ({"event-platform:protect": "perhaps"}, "event-platform:protect: .*boolean"),
        ({"event-platform:alertEmails": "me@example.com"}, "event-platform:alertEmails: must be a list"),
        ({"event-platform:alertEmails": '["me"]'}, "event-platform:alertEmails.0: .*email"),
        (
            {"event-platform:mailFrom": "me@example.com"},
            "event-platform:smtpUrl: goes together with mailFrom",
        ),
        ({"event-platform:mailFrom": "me"}, "event-platform:mailFrom: must be an e-mail address"),
        ({"event-platform:smtpUrl": "mail.example.com"}, "event-platform:smtpUrl: must be smtp://"),
        ({"event-platform:pimTopics": '[{"pim": "https://p.example"}]'}, "pimTopics.0.publisher"),
        (
            {"event-platform:pimTopics": '[{"pim": "https://p.example", "publisher": "allUsers"}]'},
            "pimTopics.0.publisher: .*match pattern",
        ),
        ({"event-platform:settings": '{"AEP_TIMOUT": 5}'}, "settings: no function reads AEP_TIMOUT"),
        ({"event-platform:settings": '{"AEP_TIMEOUT": "soon"}'}, "settings: AEP_TIMEOUT: .*number"),
        ({"event-platform:settings": '{"AEP_PIMS": "[]"}'}, "settings: AEP_PIMS is set by the stack"),
        ({"event-platform:labels": '{"Team": "a"}'}, "event-platform:labels: names and values are"),
    ],
)
def test_a_wrong_key_is_named(changed: Mapping[str, Any], message: str) -> None:
    with pytest.raises(WrongConfiguration, match=message):
        read(told(changed), secret=SECRETS)


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_in_plain_text_is_refused(key: str) -> None:
    with pytest.raises(WrongConfiguration, match=f"{key}: is a secret: `pulumi config set --secret"):
        read(told({key: SECRETS[key]}), secret=set(SECRETS) - {key})


def test_an_error_does_not_tell_a_secret() -> None:
    with pytest.raises(WrongConfiguration) as wrong:
        read(
            told({"event-platform:pims": '[{"url": "https://p.example", "ingest_kei": "hush-hush"}]'}),
            SECRETS,
        )
    assert "hush-hush" not in str(wrong.value)


def test_the_configuration_of_other_programs_is_left_alone() -> None:
    read(told({"other-program:key": "value", "gcp:zone": "a"}), secret=SECRETS)
