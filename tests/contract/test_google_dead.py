"""`aep dead` with `--google`, on Google's Pub/Sub emulator."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from aep.google import dead_letters
from contract.suites.retry_schedule import a_delivery
from event_platform.adapters.pubsub.publisher import PubSubPublisher
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_message
from event_platform.push import DELIVERY_COUNT, SOURCE_PROJECT, SOURCE_SUBSCRIPTION, Pushed, dead_letter
from support.aep_here import Ended, run
from support.pubsub_project import Project

DELIVERIES = "deliveries-0"
NOWHERE = "127.0.0.1:1"
UNREADABLE = Message(b"{", {"dead_letter_reason": "the push envelope:\x1b[2J json_invalid"})


@pytest.fixture
async def pubsub(pubsub_host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Project]:
    """Topics of deliveries and of dead letters."""
    monkeypatch.setattr(dead_letters, "PULL_SECONDS", 0.2)
    opened = Project(pubsub_host, project)
    await opened.create_topic(DELIVERIES)
    await opened.create_topic(DEAD_LETTERS_TOPIC)
    yield opened
    await opened.close()


def aep_dead(pubsub_host: str, *arguments: str) -> Ended:
    return run("dead", *arguments, settings={"PUBSUB_EMULATOR_HOST": pubsub_host})


async def dead(pubsub: Project, host: str, *arguments: str) -> Ended:
    return await asyncio.to_thread(aep_dead, host, *arguments, "--google", pubsub.name)


async def bury(pubsub: Project, *messages: Message) -> None:
    await PubSubPublisher(pubsub.name, pubsub.client).publish(DEAD_LETTERS_TOPIC, messages)


def letter(pubsub: Project, message: Message, subscription: str = DELIVERIES) -> Message:
    """As a push route makes it."""
    origin = f"projects/{pubsub.name}/subscriptions/{subscription}"
    return dead_letter(Pushed(message, "7", origin, 100), "KeyError 100 times")


def letter_of_pubsub(pubsub: Project, message: Message) -> Message:
    """As Pub/Sub makes it."""
    theirs = {SOURCE_PROJECT: pubsub.name, SOURCE_SUBSCRIPTION: DELIVERIES, DELIVERY_COUNT: "5"}
    return Message(message.data, {**message.attributes, **theirs}, message.ordering_key)


async def listed(pubsub: Project, host: str) -> list[dict[str, str]]:
    ended = await dead(pubsub, host, "list", "--json")
    assert (ended.status, ended.err) == (0, "")
    return orjson.loads(ended.out)


async def test_the_list_tells_where_each_is_from_and_keeps_it(pubsub: Project, pubsub_host: str) -> None:
    delivery = replace(a_delivery(), event_id="50 % é")
    await bury(pubsub, letter(pubsub, delivery_message(delivery)))
    await bury(pubsub, letter_of_pubsub(pubsub, Message(b"?", {"ce-id": "of a PIM"})), UNREADABLE)
    origin = f"projects/{pubsub.name}/subscriptions/{DELIVERIES}"
    for _ in range(2):
        letters = await listed(pubsub, pubsub_host)
        assert len({each["id"] for each in letters}) == 3
        assert sorted((each["from"], each["event_id"], each["error"]) for each in letters) == [
            ("", "", "the push envelope:\x1b[2J json_invalid"),
            (origin, "50 % é", "KeyError 100 times"),
            (origin, "of a PIM", "pushed 5 times and never acknowledged"),
        ]
        assert {each["subscription_id"] for each in letters} == {"", delivery.subscription_id}
        assert all(each["at"].endswith("Z") for each in letters)
    shown = (await dead(pubsub, pubsub_host, "list")).out
    assert "50 % é" in shown
    assert "\x1b" not in shown


async def test_a_replayed_delivery_is_on_its_topic_as_it_was(pubsub: Project, pubsub_host: str) -> None:
    message = delivery_message(a_delivery())
    await bury(pubsub, letter(pubsub, message), letter(pubsub, Message(b"another")))
    (chosen,) = [each for each in await listed(pubsub, pubsub_host) if each["event_id"]]
    ended = await dead(pubsub, pubsub_host, "replay", chosen["id"])
    assert ended == Ended(0, "Replayed 1 dead letter.\n", "")
    (again,) = await pubsub.pull(DELIVERIES, 1)
    assert Message(again.data, dict(again.attributes), again.ordering_key) == message
    assert [each["event_id"] for each in await listed(pubsub, pubsub_host)] == [""]


async def test_all_are_replayed_in_their_order(pubsub: Project, pubsub_host: str) -> None:
    messages = [Message(str(number).encode(), {"a": "b"}, "s/1") for number in range(250)]
    for message in messages[:3]:
        await bury(pubsub, letter_of_pubsub(pubsub, message))
    await bury(pubsub, *[letter(pubsub, message) for message in messages[3:]])
    ended = await dead(pubsub, pubsub_host, "replay", "--all", "--json")
    assert orjson.loads(ended.out) == {"replayed": 250, "left": {}}
    pulled = await pubsub.pull(DELIVERIES, 250)
    assert {(each.ordering_key, *each.attributes.items()) for each in pulled} == {("s/1", ("a", "b"))}
    assert [each.data for each in pulled[:3]] == [message.data for message in messages[:3]]
    assert {each.data for each in pulled} == {message.data for message in messages}
    assert await listed(pubsub, pubsub_host) == []


async def test_what_cannot_be_replayed_stays_and_says_why(pubsub: Project, pubsub_host: str) -> None:
    await pubsub.create_topic("replay-0199a000")
    replayed = letter(pubsub, Message(b"3"), "replay-0199a000")
    await bury(
        pubsub, UNREADABLE, letter(pubsub, Message(b"1"), "gone"), letter(pubsub, Message(b"2")), replayed
    )
    ended = await dead(pubsub, pubsub_host, "replay", "--all")
    assert (ended.status, ended.out) == (1, "Replayed 1 dead letter.\n")
    told = sorted(line.partition(" stays: ")[2] for line in ended.err.splitlines())
    assert told == [
        "it does not say which push subscription it came from",
        "it was part of a replay: start another for the subscription",
        f"the push subscription projects/{pubsub.name}/subscriptions/gone or its topic is gone",
    ]
    left = await listed(pubsub, pubsub_host)
    assert len(left) == 3
    for each in left:
        assert f"aep: dead letter {each['id']} stays: " in ended.err


async def test_an_unknown_id_is_named_and_nothing_is_changed(pubsub: Project, pubsub_host: str) -> None:
    await bury(pubsub, letter(pubsub, Message(b"1")))
    (known,) = await listed(pubsub, pubsub_host)
    ended = await dead(pubsub, pubsub_host, "replay", known["id"], "x\x1b")
    assert ended.status == 2
    assert ended.err.startswith(r"aep: no dead letter x\x1b: ")
    assert len(await listed(pubsub, pubsub_host)) == 1


async def test_a_missing_pull_subscription_is_named(pubsub: Project, pubsub_host: str) -> None:
    ended = await dead(pubsub, pubsub_host, "list", "--pull-subscription", "other")
    assert ended.status == 1
    assert f"projects/{pubsub.name}/subscriptions/other" in ended.err
    assert ended.err.count("\n") == 1


def test_that_google_does_not_answer_is_one_line() -> None:
    ended = aep_dead(NOWHERE, "list", "--google", "p")
    assert ended.status == 1
    assert ended.err.startswith("aep: projects/p/subscriptions/dead-letters of Pub/Sub cannot be used: ")
    assert ended.err.count("\n") == 1


def test_without_googles_packages_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.pubsub_v1", None)
    ended = aep_dead(NOWHERE, "list", "--google", "p")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "pip install google-cloud-pubsub" in ended.err


@pytest.mark.parametrize("arguments", [(), ("1", "--all")])
def test_which_ones_are_replayed_has_to_be_said(arguments: tuple[str, ...]) -> None:
    ended = aep_dead(NOWHERE, "replay", *arguments, "--google", "p")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
