"""A day in fast motion: three subscriptions miss events in three ways, and get each of them."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from event_platform.domain.replays import Which
from event_platform.domain.subscriptions import Subscription
from support.aep_here import run
from support.records import PIM, an_event
from support.replaying import Got, Receiver, Replaying

HOUR = 3600
EVENTS_AN_HOUR = 6


async def test_every_event_of_the_day_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # tests side by side set it, and lines would be broken
    async with Replaying(tmp_path, Receiver()) as world:
        await world.run()
        gone = await world.one(catch_up=True)  # its endpoint answers 404 for an hour
        wrong = await world.one(filter='user = "nobody"')  # until somebody sees it
        lost = await world.one()  # its receiver loses its database in the evening
        is_gone = False

        def answers(got: Got) -> int:
            return 404 if is_gone and got.subscription_id == gone.id else 200

        world.receiver.answers = answers
        ids: list[str] = []
        for hour in range(24):
            is_gone = hour == 8
            if hour == 9:
                await world.resume(gone)
            if hour == 15:
                await world.change(wrong, lambda before: replace(before, filter=None))
            for _ in range(EVENTS_AN_HOUR):
                event = an_event(len(ids), entity="one")
                ids.append(event.id)
                await world.intake.accept(PIM, [event])
                await world.clock.advance(10)
            await world.clock.jump(HOUR - 10 * EVENTS_AN_HOUR)
        await world.settled()

        assert world.receiver.of(gone) == ids  # caught up, in order
        assert world.receiver.of(wrong) == ids[15 * EVENTS_AN_HOUR :]
        replayed = await world.ended(wrong, await world.replay(wrong))
        assert replayed == ("done", 15 * EVENTS_AN_HOUR, 15 * EVENTS_AN_HOUR, 0)
        assert Counter(world.receiver.of(wrong)) == Counter(ids)
        before = len(world.receiver.of(lost))
        again = await world.ended(lost, await world.replay(lost, which=Which.ALL))
        assert again == ("done", len(ids), len(ids), 0)
        assert world.receiver.of(lost)[before:] == ids

        operations = await world.rows(
            "SELECT operation, count(*) FROM log_entries WHERE subscription_id <> ''"
            " AND operation NOT LIKE '%created%' GROUP BY operation ORDER BY operation"
        )
        assert operations == [
            ("failed_to_deliver_event", 1),  # the one that met the 404, which came again
            ("replay_ended_by_the_platform", 2),
            ("replay_started_by_the_platform", 2),
            ("subscription_caught_up", 1),
            ("subscription_resumed_by_the_platform", 1),
            ("subscription_suspended_by_the_platform", 1),
            ("subscription_updated_by_the_platform", 1),
        ]
        waiting = await world.rows("SELECT count(*) FROM courses WHERE outcome IS NULL")
        assert waiting == [(0,)]

    def traced(event_id: str, subscription: Subscription) -> list[list[str]]:
        """Returns the words of `aep trace` about the deliveries for a subscription, without the times."""
        shown = run("trace", event_id, "--data", str(tmp_path))
        assert shown.status == 0, shown.err
        courses: list[list[str]] = []
        for line in shown.out.splitlines()[2:]:
            (words,) = re.findall(r"Z  (.*?)(?: after \d+ ms)?$", line)
            if words.startswith("matched by"):
                courses.append([])
            courses[-1].append(words)
        return [course for course in courses if subscription.id in course[0]]

    of_gone = Counter(got.event_id for got in world.receiver.got if got.subscription_id == gone.id)
    (met_the_404,) = [event_id for event_id, requests in of_gone.items() if requests > 1]
    refused = "suspending: 404 destination_not_found"
    assert traced(met_the_404, gone) == [[f"matched by {gone.id}", refused, "delivered: 200"]]
    missed = ids[8 * EVENTS_AN_HOUR + 3]  # while it was suspended
    assert traced(missed, gone) == [[f"matched by {gone.id}", "delivered: 200"]]
    assert traced(ids[0], wrong) == [[f"matched by {wrong.id}, sent again by a replay", "delivered: 200"]]
    assert traced(ids[-1], wrong) == [[f"matched by {wrong.id}", "delivered: 200"]]
    assert traced(ids[0], lost) == [
        [f"matched by {lost.id}", "delivered: 200"],
        [f"matched by {lost.id}, sent again by a replay", "delivered: 200"],
    ]
