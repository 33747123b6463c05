"""The acts of the operator on a subscription: each asks before, and is logged as the operator's."""

from pathlib import Path

import orjson
import pytest

from aep.console.subscription import ACTS
from event_platform.domain.record.logs import LogQuery
from event_platform.domain.subscriptions import HttpsConfig, Status, Subscription
from event_platform.manage import trials
from support.console import ConsoleHere, Reader, console_here
from support.processes import free_port
from support.records import KAFKA_CONFIG, PRIMARY, UPDATED


def path_of(subscription: Subscription, act: str = "") -> str:
    return f"/console/subscriptions/{subscription.id}" + (f"/{act}" if act else "")


async def now(here: ConsoleHere, subscription: Subscription) -> Subscription:
    found = await here.platform.parts.subscriptions.current(subscription.id)
    assert found is not None
    return found


async def operations(here: ConsoleHere, subscription: Subscription) -> list[str]:
    """Returns what was done to a subscription since it was made, newest first."""
    query = LogQuery(subscription_id=subscription.id)
    entries = await here.platform.parts.manage.logs.entries(subscription.owner, query)
    return [entry.operation for entry in entries if "_created_" not in entry.operation]


async def test_the_page_shows_everything_but_secrets(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    page = await reader.get(path_of(subscription))

    assert page.status == 200
    for shown in (
        UPDATED,
        'not user = "nobody"',
        "erp",
        "https://pim.example.com",
        "X-Api-Key",
        subscription.id,
    ):
        assert shown in page.words
    for secret in (PRIMARY, "a secondary secret of tests", "a header value of tests"):
        assert secret not in page.text


async def test_each_act_says_what_it_does_before_it_is_done(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    for name, act in ACTS.items():
        page = await reader.get(path_of(subscription, name))
        assert (page.status, act.text in page.words) == (200, True), name

    assert await operations(here, subscription) == []
    assert await now(here, subscription) == subscription


async def test_suspending_and_resuming(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    suspended = await reader.submit(path_of(subscription, "suspend"))
    assert (await now(here, subscription)).status is Status.SUSPENDED
    assert "It is suspended." in suspended.words
    assert "Resume" in suspended.words
    resumed = await reader.submit(path_of(subscription, "resume"), {"catch_up": "yes"})
    assert (await now(here, subscription)).status is Status.ACTIVE
    assert "It is active again." in resumed.words
    logged = await operations(here, subscription)
    assert [each for each in logged if each != "subscription_caught_up"] == [  # soon, as nothing came
        "subscription_resumed_by_the_operator",
        "subscription_suspended_by_the_operator",
    ]


async def test_who_keeps_nothing_cannot_catch_up(tmp_path: Path) -> None:
    async with console_here(tmp_path, keep=0) as here, here.reader() as reader:
        (subscription,) = await here.subscribe()
        await reader.submit(path_of(subscription, "suspend"))
        asked = await reader.get(path_of(subscription, "resume"))
        refused = await reader.submit(path_of(subscription, "resume"), {"catch_up": "yes"})
        replay = await reader.submit(path_of(subscription, "replay"), {"minutes": "60"})

    assert "is delivered first" not in asked.words
    assert (refused.status, "AEP_KEEP" in refused.words) == (409, True)
    assert replay.status == 409


async def test_the_url_is_changed_and_what_is_hidden_stays(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    page = await reader.submit(path_of(subscription, "url"), {"url": "https://erp.example.com/other"})
    changed = (await now(here, subscription)).config

    assert "The URL is changed." in page.words
    assert isinstance(changed, HttpsConfig)
    assert isinstance(subscription.config, HttpsConfig)
    assert changed.url == "https://erp.example.com/other"
    assert changed.primary_secret == subscription.config.primary_secret
    assert changed.headers == subscription.config.headers


async def test_secrets_are_entered_anew_for_another_host(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    fields = {"url": "https://other.example.com/hook"}
    refused = await reader.submit(path_of(subscription, "url"), fields)
    assert (refused.status, "must be sent anew" in refused.words) == (400, True)
    assert 'value="https://other.example.com/hook"' in refused.text
    assert (await now(here, subscription)).config == subscription.config
    entered = {**fields, "secret": "another-secret-of-tests", "header.X-Api-Key": "another"}
    done = await reader.submit(path_of(subscription, "url"), entered)
    query = LogQuery(subscription_id=subscription.id)
    entries = await here.platform.parts.manage.logs.entries(subscription.owner, query)

    assert "The URL is changed." in done.words
    changed = (await now(here, subscription)).config
    assert isinstance(changed, HttpsConfig)
    assert changed.primary_secret.get_secret_value() == "another-secret-of-tests"
    assert await operations(here, subscription) == ["subscription_updated_by_the_operator"]
    assert "another-secret-of-tests" not in repr(entries)
    assert "another-secret-of-tests" not in done.text


async def test_a_wrong_url_changes_nothing(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    page = await reader.submit(path_of(subscription, "url"), {"url": "ftp://x"})

    assert (page.status, "config.url" in page.words) == (400, True)
    assert await now(here, subscription) == subscription


async def test_deleting_is_for_good(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    page = await reader.submit(path_of(subscription, "delete"))
    gone = await reader.get(path_of(subscription))

    assert page.url.endswith("/console/subscriptions")
    assert (await now(here, subscription)).status is Status.DELETED
    assert gone.status == 404
    assert await operations(here, subscription) == ["subscription_deleted_by_the_operator"]


async def test_a_test_shows_what_was_answered(
    here: ConsoleHere, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SECONDS_BETWEEN_TESTS", 3600)
    url = f"http://127.0.0.1:{free_port()}/hook"
    (subscription,) = await here.subscribe(url=url)
    page = await reader.submit(path_of(subscription, "test"), {"type": UPDATED})
    again = await reader.submit(path_of(subscription, "test"))

    assert "connection_refused" in page.words
    assert f"POST {url}" in page.words
    assert "a header value of tests" not in page.text
    assert again.status == 429


async def test_an_event_is_explained(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    asked = await reader.get(path_of(subscription, "explain"))
    data = {"product": {"uuid": "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"}}
    author = {"identifier": "nobody", "type": "user"}
    event = orjson.dumps({"type": UPDATED, "data": {**data, "author": author}}).decode()
    page = await reader.submit(path_of(subscription, "explain"), {"event": event})
    wrong = await reader.submit(path_of(subscription, "explain"), {"event": "{"})

    assert UPDATED in asked.words
    assert "It does not get this event" in page.words
    assert "no filter" in page.words
    assert (wrong.status, "The event" in wrong.words) == (400, True)


@pytest.mark.parametrize("events", [[], ["com.example.v1.gone"]])
async def test_types_that_are_in_no_catalog_any_more_have_no_example(
    here: ConsoleHere, reader: Reader, events: list[str]
) -> None:
    (subscription,) = await here.subscribe(events=events)
    asked = await reader.get(path_of(subscription, "explain"))
    page = await reader.submit(path_of(subscription, "explain"), {"event": "{}"})

    assert (asked.status, page.status) == (200, 400)
    assert (await reader.get(path_of(subscription, "test"))).status == 200


async def test_a_replay_is_started_once_and_cancelled(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    none = await reader.submit(path_of(subscription, "replay"), {"which": "all"})
    page = await reader.submit(path_of(subscription, "replay"), {"minutes": "60", "which": "all"})

    assert (none.status, "since when" in none.words) == (400, True)
    assert "The replay has started." in page.words
    assert "replay_started_by_the_operator" in await operations(here, subscription)


async def test_what_a_subscription_cannot_do_is_said(here: ConsoleHere, reader: Reader) -> None:
    (kafka,) = await here.subscribe(config=KAFKA_CONFIG)
    page = await reader.get(path_of(kafka))
    statuses = [
        (await reader.submit(path_of(kafka, name), {"url": "https://x.example.com"})).status
        for name in ("test", "url", "cancel")
    ]

    assert "Send a test" not in page.words
    assert statuses == [409, 409, 404]


@pytest.mark.parametrize("path", ["/console/subscriptions/none", "/console/subscriptions/none/suspend"])
async def test_an_unknown_subscription_is_not_found(reader: Reader, path: str) -> None:
    assert (await reader.get(path)).status == 404
    assert (await reader.submit(f"{path}/suspend")).status == 404


async def test_an_unknown_act_is_not_found(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()

    assert (await reader.get(path_of(subscription, "nothing"))).status == 404
    assert (await reader.submit(path_of(subscription, "nothing"))).status == 404
