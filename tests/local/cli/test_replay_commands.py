"""`aep replay` and `aep retry`: what they start is taken up by the platform on the folder."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from aep.cli import replays
from support.aep_here import Ended, run
from support.records import PIM, an_event
from support.replaying import Receiver, Replaying

SETTINGS = {"AEP_SECRETS_KEY": base64.b64encode(b"\x01" * 32).decode()}
FROM = ("--from", "2026-01-31T12:00:00Z")


def aep(folder: Path, *arguments: str, **settings: str) -> Ended:
    return run(*arguments, "--data", str(folder), settings=SETTINGS | settings)


@pytest.fixture
def subscription_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a subscription on the folder whose filter was wrong when two events came."""

    async def made() -> str:
        async with Replaying(tmp_path, Receiver()) as world:
            await world.run()
            subscription = await world.one(filter='user = "nobody"')
            await world.intake.accept(PIM, [an_event(1), an_event(2)])
            await world.change(subscription, lambda before: replace(before, filter=None))
            return subscription.id

    monkeypatch.setattr(replays, "_follow", lambda connection, replay_id: None)  # nothing runs here
    return asyncio.run(made())


async def taken_up(folder: Path, replay_id: str) -> list[str]:
    """The events that a platform on the folder sends in the replay."""
    async with Replaying(folder, Receiver()) as world:
        await world.run()
        await world.until(lambda: len(world.receiver.taken) == 2)
        assert {got.replay_id for got in world.receiver.taken} == {replay_id}
        return sorted(got.event_id for got in world.receiver.taken)


def test_a_replay_is_started_and_shown(tmp_path: Path, subscription_id: str) -> None:
    ended = aep(tmp_path, "replay", subscription_id, *FROM, "--json")

    shown = orjson.loads(ended.out)
    assert (shown["status"], shown["which"], shown["events"]) == ("running", "undelivered", None)
    assert asyncio.run(taken_up(tmp_path, shown["id"])) == ["event-1", "event-2"]


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("0199", *FROM), {}, "no subscription 0199: `aep status` lists them"),
        (("ID", "--from", "yesterday"), {}, "--from yesterday: not an RFC 3339 date-time"),
        (
            ("ID", "--from", "2026-01-31T11:00:00Z"),
            {},
            "aep: --from is older than what is kept, which",
        ),
        (("ID", *FROM), {"AEP_KEEP": "0"}, "no events are kept, so none can be sent again: AEP_KEEP is 0"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    tmp_path: Path,
    subscription_id: str,
    arguments: tuple[str, ...],
    settings: dict[str, str],
    message: str,
) -> None:
    named = [subscription_id if each == "ID" else each for each in arguments]
    ended = aep(tmp_path, "replay", *named, **settings)

    assert ended.status != 0
    assert message in ended.err


def test_retries_are_made_due(tmp_path: Path, subscription_id: str) -> None:
    assert aep(tmp_path, "retry", subscription_id).out == "Nothing waits for its next attempt.\n"
