"""Each command that lists something, on one store at 80, 120 and 200 columns: no id is cut in any."""

import asyncio
import base64
from pathlib import Path

import pytest

from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from support.aep_here import run
from support.embedded import Embedded
from support.records import PIM, an_event

SETTINGS = {"AEP_SECRETS_KEY": base64.b64encode(b"\x01" * 32).decode()}
ENTITY = "product:00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with a PIM, its client, a subscription, and one delivery of each kind; the ids."""
    folder = tmp_path_factory.mktemp("lists")

    async def fill() -> tuple[str, str]:
        async with Embedded(folder) as store:
            await store.open()
            (subscription,) = await store.subscribe(filter=None)
            await store.queue.accept(PIM, [an_event(1), an_event(2), an_event(3)])
            failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
            tried = store.put[0].delivery()
            await store.queue.settle(Settlement(tried, failed, retry_at=store.clock.now()))
            await store.queue.dead_letter(store.put[1], "KeyError: 'a bug of ours'")
            return subscription.id, subscription.subscriber_id

    ids = asyncio.run(fill())
    for words in (
        ("add", PIM, "--auth", "platform-key"),
        ("client", PIM, "2_1x8s0r6hgkkkc0kos8w4wkgkk8ggwc8w4o4c", "--username", "erp_4711"),
    ):
        assert run("pims", *words, "--data", str(folder), settings=SETTINGS).status == 0
    return folder, *ids


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_command_cuts_an_id(made: tuple[Path, str, str], width: int) -> None:
    folder, subscription, subscriber = made
    for words, ids in (
        (("status",), (subscription, PIM, "https://erp.example.com/events")),
        (("logs",), (subscription, subscriber)),
        (("trace", "--entity", ENTITY), (subscription, ENTITY, "event-1")),
        (("pims", "list"), (PIM, "platform-key")),
        (("pims", "clients", PIM), ("2_1x8s0r6hgkkkc0kos8w4wkgkk8ggwc8w4o4c", "erp_4711")),
        (("dead", "list"), (subscription,)),
        (("subscribers", "list", "--operator"), (subscriber, PIM)),
        (("subscribers", "show", subscriber, "--operator"), (subscriber, PIM)),
        (("subscriptions", "list", "--operator"), (subscription, subscriber, PIM)),
        (("subscriptions", "show", subscription, "--operator"), (subscription, subscriber, PIM)),
    ):
        ended = run(*words, "--data", str(folder), settings=SETTINGS | {"COLUMNS": str(width)})
        assert (ended.status, [each for each in ids if each not in ended.out]) == (0, []), ended
        long = [line for line in ended.out.splitlines() if len(line) > width]
        assert long == [], words
