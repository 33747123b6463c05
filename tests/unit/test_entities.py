"""Entities by their names, and kept events of an entity (contract/wire.md 16)."""

from dataclasses import replace

import pytest

from event_platform.domain.events.entities import MAX_ENTITY_LENGTH, Entity, entity_of, parse_entity
from event_platform.domain.kept_events import Course, CourseStatus, KeptEvent
from support.clock import START

PRODUCT = "com.akeneo.pim.v1.product.updated"
UUID = "0C2A9A4B-3D5E-4F60-8A1B-2C3D4E5F6071"


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        (PRODUCT, "product"),
        ("com.akeneo.pim.v1.product-model.deleted", "product-model"),
        ("com.akeneo.pim.v1.workflow.task.created", "workflow.task"),
        ("com.akeneo.pim.v1.workflow", "workflow"),
        ("com.example.order.placed", "order"),
        ("placed", "placed"),
    ],
)
def test_an_entity_is_named_by_what_stands_before_the_action(event_type: str, name: str) -> None:
    assert entity_of(event_type, ["shoes", "red"]) == Entity(name, "shoes/red")
    assert entity_of(event_type, []) is None


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        (f"product:{UUID}", Entity("product", UUID.lower())),
        ("product_model:A_b", Entity("product-model", "A_b")),
        ("asset:packshots/Front:1", Entity("asset", "packshots/Front:1")),
        ("f:" + "x" * (MAX_ENTITY_LENGTH - 2), Entity("f", "x" * (MAX_ENTITY_LENGTH - 2))),
    ],
)
def test_an_entity_that_is_named_is_the_one_of_its_events(text: str, entity: Entity) -> None:
    assert parse_entity(text) == entity
    assert parse_entity(str(entity)) == entity


@pytest.mark.parametrize("text", ["", ":", "product", "product:", ":x", "f:" + "x" * (MAX_ENTITY_LENGTH - 1)])
def test_what_names_no_entity_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="must be an entity as in product:<uuid>"):
        parse_entity(text)


def test_a_kept_event_knows_its_entity_and_how_its_deliveries_ended() -> None:
    kept = KeptEvent(1, "pim", START, "cloudevents", "one", PRODUCT, "2026-01-31T12:00:00Z", ("a",))
    assert kept.entity == Entity("product", "a")
    assert replace(kept, identity=()).entity is None
    ends = [CourseStatus.DELIVERED, CourseStatus.WAITING, CourseStatus.DELIVERED]
    kept = replace(kept, courses=[Course(str(number), end) for number, end in enumerate(ends)])
    assert [kept.count(each) for each in CourseStatus] == [2, 1, 0, 0]
