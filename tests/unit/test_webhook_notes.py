"""The form in which instances pass on what webhooks brought."""

import pytest

from event_platform.domain.webhook_notes import (
    MAX_REMOVED_BYTES,
    NotedEntity,
    NotedRemoval,
    WebhookNote,
    entity_key,
    packed,
    unpacked,
)

PRODUCT = "com.akeneo.pim.v1.product"


def test_a_note_is_unpacked_as_it_was() -> None:
    note = WebhookNote(
        [NotedEntity(2**64 - 1, 0, created=True), NotedEntity(0, 2**40, created=False)],
        [NotedRemoval(PRODUCT, ("é",)), NotedRemoval(PRODUCT, ("a", "b"))],
    )
    assert unpacked(*packed(note)) == note
    assert unpacked(*packed(WebhookNote([], []))) == WebhookNote([], [])


def test_a_key_is_the_same_in_every_process_and_of_one_entity() -> None:
    key = entity_key(f"{PRODUCT}.updated", ("f0000000-0000-4000-8000-000000000001",))
    assert key == 6340553177171251845
    assert key == entity_key(f"{PRODUCT}.", ("f0000000-0000-4000-8000-000000000001",))
    assert len({entity_key(f"{PRODUCT}.x", each) for each in (("a", "b"), ("b", "a"), ("ab",))}) == 3
    entity_key(f"{PRODUCT}.updated", ("\ud800",))


def test_what_is_removed_has_a_bound_in_bytes() -> None:
    note = WebhookNote([], [NotedRemoval(PRODUCT, ("é" * 1024,))] * 1000)
    _, removed = packed(note)
    assert MAX_REMOVED_BYTES / 2 < len(removed.encode()) < MAX_REMOVED_BYTES + 1000


def test_a_note_that_was_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        unpacked(b"123", "")
