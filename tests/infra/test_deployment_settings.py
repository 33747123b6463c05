"""What a stack is told, and how a wrong key ends the run."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from stack.settings import WrongConfiguration, read
from stack.sizes import sizes_of
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


def many_pims(count: int) -> str:
    """A list of PIMs that is longer than a secret may be."""
    return json.dumps(
        [{"url": f"https://pim-{n:04}.example.com", "ingest_key": "k" * 32} for n in range(count)]
    )


def own_types(size: int) -> str:
    """A list with one event type, of so many characters at least."""
    of_ours = {"type": "com.example.shop.v1.order.created", "trigger": "An order.", "identity": []}
    return json.dumps([{**of_ours, "schema": {"type": "object"}, "example": {"note": "x" * size}}])


@pytest.mark.parametrize("stack", ["production", "minimal"])
def test_the_example_stacks_are_right(stack: str) -> None:
    settings = read(configuration(stack), secret=SECRETS)
    assert settings.project == "my-event-platform"


def test_four_keys_are_enough_and_fit_what_a_new_project_has() -> None:
    settings = read(LEAST, secret=SECRETS)
    assert max(size.max_instances for size in sizes_of(settings).values()) <= 20
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
        (
            {"gcp:userProjectOverride": "true"},
            "^gcp:billingProject: must be the project of gcp:project",
        ),
        (
            {"gcp:userProjectOverride": "true", "gcp:billingProject": "another-project"},
            "^gcp:billingProject: must be the project of gcp:project",
        ),
        ({"gcp:region": "Belgium"}, "gcp:region: .*match pattern"),
        ({"event-platform:secretsKey": "c2hvcnQ="}, "event-platform:secretsKey: must be the base64 of 32"),
        ({"event-platform:registryKey": None}, "registryKey: must be set: `pulumi config set --secret reg"),
        ({"event-platform:registryKey": "c2hvcnQ="}, "event-platform:registryKey: must be the base64 of 32"),
        ({"event-platform:feedKey": "c2hvcnQ="}, "event-platform:feedKey: must be the base64 of 32"),
        ({"event-platform:feedKey": KEY}, "feedKey: must be another key than secretsKey and registryKey"),
        ({"event-platform:feedKey": REGISTRY_KEY}, "feedKey: must be another key than secretsKey and"),
        ({"event-platform:registryKey": KEY}, "registryKey: must be another key than secretsKey"),
        ({"event-platform:registryKey": f"{KEY},{REGISTRY_KEY}"}, "must be another key than secretsKey"),
        ({"event-platform:pims": '[{"url": "ftp://pim"}]'}, "event-platform:pims"),
        (
            {"event-platform:pims": '[{"url": "https://p.example", "ingest_key": ["15 characters.."]}]'},
            r"event-platform:pims: .*entry 1, ingest_key, entry 1: must have at least 16 printable ASCII",
        ),
        (
            {"event-platform:pims": '[{"url": "https://p.example"}, {"url": "https://P.example/"}]'},
            r"event-platform:pims: .*entry 2, url: must not be the same as in entry 1",
        ),
        ({"event-platform:pims": '[{"url": "http://p.example"}]'}, "event-platform:pims: .*begin with https"),
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
        ({"event-platform:settings": '{"AEP_TIMEOUT": "11"}'}, "settings: AEP_TIMEOUT: .*equal to 10"),
        ({"event-platform:settings": '{"AEP_KEEP": "60"}'}, "AEP_KEEP: .*must be 600 to 2678400 seconds"),
        ({"event-platform:settings": '{"AEP_KEEP": "2678401"}'}, "AEP_KEEP: .*must be 600 to 2678400"),
        ({"event-platform:settings": '{"AEP_PIMS": "[]"}'}, "settings: AEP_PIMS is set by the stack"),
        (
            {"event-platform:outstandingMessages": "3000"},
            "outstandingMessages: fanout would have up to 57 instances of a CPU each, and Cloud Run has 20",
        ),
        (
            {"event-platform:deliveriesShards": "4"},
            "outstandingMessages: deliver would have up to 24 instances",
        ),
        (
            {"event-platform:maxInstances": '{"ingest": 50}'},
            "maxInstances: ingest would have up to 50 instances .* cloudRunCpus",
        ),
        ({"event-platform:cloudRunCpus": "8"}, "maxInstances: manage would have up to 10 instances"),
        ({"event-platform:maxInstances": '{"ingests": 5}'}, "maxInstances: there is no function 'ingests'"),
        ({"event-platform:maxInstances": '{"ingest": 0}'}, "maxInstances.ingest: .*greater than or"),
        (
            {"event-platform:maxInstances": '{"fanout": 18}'},
            "maxInstances: fanout must have 19 at least, or pushes of outstandingMessages",
        ),
        (
            {"event-platform:ingestMinInstances": "3", "event-platform:maxInstances": '{"ingest": 2}'},
            "ingestMinInstances: must not be above maxInstances, 2",
        ),
        (
            {"event-platform:pims": many_pims(800)},
            r"event-platform:pims: takes 7\d,\d{3} bytes, and Google keeps 65,536 in a secret.*aep pims add",
        ),
        (
            {"event-platform:settings": json.dumps({"AEP_EVENT_TYPES": own_types(40_000)})},
            r"event-platform:settings: take 4\d,\d{3} bytes, and there are 30,720",
        ),
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


def test_most_pims_that_fit_into_a_secret_are_taken() -> None:
    settings = read(told({"event-platform:pims": many_pims(650)}), secret=SECRETS)
    assert len(settings.listed_pims) == 650


def test_instances_are_as_many_as_the_key_says() -> None:
    most = '{"manage": 2, "ingest": 5, "fanout": 20, "deliver": 7, "maintain": 1, "notify": 3}'
    sizes = sizes_of(read(told({"event-platform:maxInstances": most}), secret=SECRETS))
    assert {name: size.max_instances for name, size in sizes.items()} == json.loads(most)


def test_an_error_does_not_tell_a_secret() -> None:
    with pytest.raises(WrongConfiguration) as wrong:
        read(
            told({"event-platform:pims": '[{"url": "https://p.example", "ingest_kei": "hush-hush"}]'}),
            SECRETS,
        )
    assert "hush-hush" not in str(wrong.value)


def test_the_configuration_of_other_programs_is_left_alone() -> None:
    read(told({"other-program:key": "value", "gcp:zone": "a"}), secret=SECRETS)
