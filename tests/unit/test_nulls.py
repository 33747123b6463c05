"""The one rule for null and for an empty array in bodies of the management API, over every field."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from event_platform.domain.errors import InvalidRequest
from event_platform.manage.payloads.body import MAPS, Body, Rules, validated
from event_platform.manage.payloads.configs import (
    HttpsBody,
    KafkaBody,
    PubSubBody,
    SaslBody,
    SecretBody,
    TlsBody,
)
from event_platform.manage.payloads.replays import ReplayBody, ResumeBody
from event_platform.manage.payloads.subscribers import (
    ContactBody,
    ContactPatch,
    SubscriberBody,
    SubscriberPatch,
)
from event_platform.manage.payloads.subscriptions import OptionsBody, SubscriptionBody, SubscriptionPatch
from event_platform.manage.payloads.trials import BenchmarkBody, TestBody
from unit.test_payloads import CHANGE, CONTACT, HTTPS, KAFKA, NEW, PUBSUB, SASL, SUBSCRIBER, SUBSCRIPTION, TLS

HOOK = {"notification_webhook_url": "https://a.example.com", "notification_webhook_secret": "s" * 16}
HEADERS = {"X-A": "a"}
OPTIONS = {"send_product_identifier_in_changes": True}
VALID: Mapping[type[BaseModel], dict[str, Any]] = {
    SubscriberBody: SUBSCRIBER,
    ContactBody: CONTACT | HOOK | {"notification_channels": ["email", "webhook"]},
    SubscriptionBody: SUBSCRIPTION
    | {"source": "benchmark", "subject": "https://pim.example.com", "filter": 'user = "x"'}
    | {"send_product_identifier": True, "options": OPTIONS, "catch_up": True},
    OptionsBody: OPTIONS,
    HttpsBody: HTTPS | {"headers": HEADERS},
    SecretBody: {"primary": "s" * 16, "secondary": "s" * 16},
    PubSubBody: PUBSUB | {"headers": HEADERS},
    KafkaBody: KAFKA | {"headers": HEADERS, "tls": TLS},
    SaslBody: SASL | {"scram_variant": "sha-256"},
    TlsBody: TLS,
    BenchmarkBody: {"type": "com.akeneo.benchmark.v1.test", "count": 1, "size": 1, "custom_data": {"a": 1}},
    TestBody: {"type": "x"},
    ResumeBody: {"catch_up": True},
}
"""A body of each model with every field."""
PATCH_OF: Mapping[type[BaseModel], type[BaseModel]] = {
    SubscriberBody: SubscriberPatch,
    ContactBody: ContactPatch,
    SubscriptionBody: SubscriptionPatch,
}
"""The model of a change, where it is another one than that of something new."""
STAYS_WHEN_ABSENT = {"headers"}
FIELDS = [(model, name) for model in VALID for name in model.model_fields]
IN_A_CHANGE = [(model, name) for model, name in FIELDS if model not in (BenchmarkBody, TestBody, ResumeBody)]


def outcome(model: Any, body: Any, rules: Rules) -> Any:
    """The fields of the body as it was read, or what is wrong with it."""
    try:
        return {name: getattr(validated(model, body, rules=rules), name) for name in model.model_fields}
    except InvalidRequest as error:
        return [(problem.field, problem.message) for problem in error.problems]


def test_every_field_of_every_body_is_here() -> None:
    def below(model: type[Body]) -> Iterator[type[Body]]:
        for each in model.__subclasses__():
            yield each
            yield from below(each)

    models = {each for each in below(Body) if not each.__name__.startswith("_")}
    assert models == {*VALID, *PATCH_OF.values(), ReplayBody}  # its names are aliases: test_replays.py
    for model, valid in VALID.items():
        assert valid.keys() == model.model_fields.keys()
        assert isinstance(outcome(model, valid, NEW), dict)
    for new, changed in PATCH_OF.items():
        assert changed.model_fields.keys() == new.model_fields.keys()


def test_maps_are_the_fields_that_hold_objects() -> None:
    def is_map(annotation: Any) -> bool:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return True
        origin = getattr(annotation, "__origin__", None)
        return origin is dict or (origin is not list and any(map(is_map, get_args(annotation))))

    models = (*VALID, *PATCH_OF.values())
    found = {
        name for model in models for name, field in model.model_fields.items() if is_map(field.annotation)
    }
    assert found == MAPS


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_null_is_as_an_absent_field_in_something_new(model: type[BaseModel], name: str) -> None:
    absent = {key: value for key, value in VALID[model].items() if key != name}
    expected = outcome(model, absent, NEW)
    if name in STAYS_WHEN_ABSENT:
        expected |= {name: {}}
    assert outcome(model, absent | {name: None}, NEW) == expected
    if name in MAPS:
        assert outcome(model, absent | {name: []}, NEW) == expected


@pytest.mark.parametrize(("model", "name"), IN_A_CHANGE)
def test_null_in_a_change_puts_the_default_back_or_is_refused(model: type[BaseModel], name: str) -> None:
    absent = {key: value for key, value in VALID[model].items() if key != name}
    of_new = outcome(model, absent, NEW)
    found = outcome(PATCH_OF.get(model, model), absent | {name: None}, CHANGE)
    if isinstance(of_new, list):
        assert of_new == [(name, "is required")]
        assert found == [(name, "is required, it cannot be null")]
    else:
        assert found[name] == ({} if name in STAYS_WHEN_ABSENT else of_new[name])


@pytest.mark.parametrize(("model", "name"), [each for each in IN_A_CHANGE if each[1] in MAPS])
def test_an_empty_array_for_an_object_is_an_empty_object_in_a_change(
    model: type[BaseModel], name: str
) -> None:
    changed = PATCH_OF.get(model, model)
    rest = VALID[model]
    assert outcome(changed, rest | {name: []}, CHANGE) == outcome(changed, rest | {name: {}}, CHANGE)


@pytest.mark.parametrize("rules", [NEW, CHANGE], ids=["new", "change"])
def test_null_inside_a_list_or_as_a_header_is_no_value(rules: Rules) -> None:
    assert outcome(HttpsBody, HTTPS | {"headers": {"X-A": None}}, rules) == [
        ("headers.X-A", "must be a string")
    ]
    assert outcome(SubscriptionBody, SUBSCRIPTION | {"events": [None]}, rules) == [
        ("events.0", "must be a string")
    ]
