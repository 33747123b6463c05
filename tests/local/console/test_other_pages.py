"""The pages of events, PIMs, dead letters, the log, health and trying."""

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from pydantic import SecretStr

from aep.console import events
from aep.console.operations import settings_shown
from aep.console.trying import PIMS_OFFERED
from aep.console.views import ON_A_PAGE
from event_platform.domain.subscriptions import Owner
from event_platform.settings import Settings
from support.console import ConsoleHere, Reader, console_here
from support.records import PIM, UPDATED, an_event, with_data

HOSTILE = '<script>alert(1)</script>\u202e"'


async def add_pim(reader: Reader, auth: str = "platform-key") -> str:
    """Adds PIM; returns its ingest key."""
    page = await reader.submit("/console/pims/add", {"url": PIM, "auth": auth})
    found = re.search(r"Ingest key, shown only now: (\S+)", page.words)
    assert found is not None, page.words
    return found[1]


async def test_a_pim_is_added_and_its_secrets_are_shown_once(here: ConsoleHere, reader: Reader) -> None:
    key = await add_pim(reader)
    (tenant,) = await here.platform.parts.pims.tenants()
    again = await reader.get(f"/console/pims/one?name={quote(PIM)}")
    listed = await reader.get("/console/pims")
    twice = await reader.submit("/console/pims/add", {"url": f"{PIM}/"})

    assert tenant.ingest_key[0].get_secret_value() == key
    assert PIM in listed.words
    for page in (again, listed, twice):
        assert key not in page.text
    assert (twice.status, "is known already" in twice.words) == (400, True)


@pytest.mark.parametrize(
    "fields",
    [{"url": ""}, {"url": "not a url"}, {"url": PIM, "auth": "nothing"}, {"url": "https://u:p@x.com"}],
)
async def test_a_wrong_pim_is_not_added(here: ConsoleHere, reader: Reader, fields: dict[str, str]) -> None:
    page = await reader.submit("/console/pims/add", fields)

    assert page.status == 400
    assert await here.platform.parts.pims.tenants() == []


async def test_many_pims_are_in_pages_and_found(tmp_path: Path) -> None:
    listed = [{"url": f"https://pim{number:03}.example.com"} for number in range(2 * ON_A_PAGE + 1)]
    async with console_here(tmp_path, pims=orjson.dumps(listed).decode()) as here, here.reader() as reader:
        pages = [await reader.get(f"/console/pims?page={number}") for number in range(4)]
        found = await reader.get("/console/pims?q=PIM007")
        none = await reader.get("/console/pims?q=nothing&page=%D9%A3")

    shown = [set(re.findall(r">(https://pim\d+\.example\.com)<", page.text)) for page in pages]
    assert [len(each) for each in shown] == [ON_A_PAGE, ON_A_PAGE, 1, 0]
    assert set.union(*shown) == {each["url"] for each in listed}
    assert ["Next" in page.words for page in pages] == [True, True, False, False]
    assert ("pim007" in found.words, "pim008" in found.words) == (True, False)
    assert "None of 101 PIMs" in none.words


async def test_many_clients_are_in_pages_and_found(tmp_path: Path) -> None:
    clients = [{"client_id": f"client-{number:05}"} for number in range(10_000)]
    listed = orjson.dumps([{"url": PIM, "auth": "probe", "clients": clients}]).decode()
    one = f"/console/pims/one?name={quote(PIM)}"
    async with console_here(tmp_path, pims=listed) as here, here.reader() as reader:
        first, last = await reader.get(one), await reader.get(f"{one}&page=199")
        found = await reader.get(f"{one}&q=-00007")
        none = await reader.get(f"{one}&q=nothing")

    assert "1–50 of 10 000 Next" in first.words
    assert "9 951–10 000 of 10 000 Previous" in last.words
    assert re.findall(r"client-\d+", found.words) == ["client-00007"]
    assert "None of 10000 clients" in none.words
    assert max(len(page.text) for page in (first, last, found, none)) < 30_000


async def test_ingest_keys_are_rotated(here: ConsoleHere, reader: Reader) -> None:
    first = await add_pim(reader)
    asked = await reader.get(f"/console/pims/one/rotate-ingest?name={quote(PIM)}")
    page = await reader.submit("/console/pims/one/rotate-ingest", {"name": PIM})
    (tenant,) = await here.platform.parts.pims.tenants()

    assert "shown once" in asked.words
    keys = [key.get_secret_value() for key in tenant.ingest_key]
    assert keys[1:] == [first]
    assert keys[0] in page.words


async def test_keys_of_clients_are_issued_and_revoked(here: ConsoleHere, reader: Reader) -> None:
    await add_pim(reader)
    issued = await reader.submit("/console/pims/one/issue", {"name": PIM, "client": "erp"})
    found = re.search(r"X-PIM-TOKEN of erp, shown only now: (\S+)", issued.words)
    assert found is not None
    headers = {"X-PIM-URL": PIM, "X-PIM-TOKEN": found[1], "X-PIM-CLIENT-ID": "erp"}
    caller = await here.platform.parts.verifier.verify(headers, "127.0.0.1")
    assert caller.owner == Owner(PIM, "erp")
    for wrong in ("", "x" * 300, "nobody"):
        page = await reader.submit("/console/pims/one/revoke", {"name": PIM, "client": wrong})
        assert page.status == 400
    revoked = await reader.submit("/console/pims/one/revoke", {"name": PIM, "client": "erp"})

    assert "None is listed" in revoked.words


async def test_the_secret_of_the_webhook_is_entered_and_never_shown(
    here: ConsoleHere, reader: Reader
) -> None:
    await add_pim(reader)
    weak = await reader.submit("/console/pims/one/webhook-secret", {"name": PIM, "secret": "short"})
    secret = "the-secret-that-the-pim-shows"
    page = await reader.submit("/console/pims/one/webhook-secret", {"name": PIM, "secret": secret})
    (tenant,) = await here.platform.parts.pims.tenants()

    assert weak.status == 400
    assert tenant.events_api_secret == (SecretStr(secret),)
    assert secret not in page.text


async def test_a_pim_is_removed(here: ConsoleHere, reader: Reader) -> None:
    await add_pim(reader)
    asked = await reader.get(f"/console/pims/one/remove?name={quote(PIM)}")
    page = await reader.submit("/console/pims/one/remove", {"name": PIM})
    again = await reader.submit("/console/pims/one/remove", {"name": PIM})

    assert "gone for good" in asked.words
    assert "No PIM is known yet" in page.words
    assert again.status == 404


async def test_a_pim_of_the_list_is_not_changed_here(tmp_path: Path) -> None:
    listed = orjson.dumps([{"url": PIM}]).decode()
    async with console_here(tmp_path, pims=listed) as here, here.reader() as reader:
        page = await reader.get(f"/console/pims/one?name={quote(PIM)}")
        refused = await reader.submit("/console/pims/one/rotate-ingest", {"name": PIM})

    assert "AEP_PIMS" in page.words
    assert "Make another" not in page.words
    assert (refused.status, "cannot be changed here" in refused.words) == (400, True)


async def test_events_are_found_and_shown_with_what_became_of_them(here: ConsoleHere, reader: Reader) -> None:
    await add_pim(reader)
    got, not_got = await here.subscribe(url="http://127.0.0.1:1/hook"), await here.subscribe(events=["x.y"])
    event = replace(an_event(), id="an-id")
    await here.platform.parts.manage.intake.accept(PIM, [event])
    listed = await reader.get("/console/events")
    found = await reader.get(f"/console/events?id=an-id&type={UPDATED}&from=2020-01-01")
    none = await reader.get("/console/events?id=other")
    one = await reader.get("/console/events/one?id=an-id")

    for page in (listed, found):
        assert "/console/events/one?id=an-id" in page.text
    assert "No kept event is like that" in none.words
    assert got[0].config.destination in one.words
    assert f"/console/subscriptions/{not_got[0].id}" in one.text
    assert "Who did not get it (1)" in one.words
    assert '"specversion": "1.0"' in one.words


async def test_of_many_deliveries_of_an_event_some_are_shown(
    here: ConsoleHere, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "COURSES_SHOWN", 1)
    await add_pim(reader)
    await here.subscribe(3, url="http://127.0.0.1:1/hook", filter=None)
    await here.platform.parts.manage.intake.accept(PIM, [replace(an_event(), id="an-id")])
    one = await reader.get("/console/events/one?id=an-id")

    assert one.text.count("http://127.0.0.1:1/hook") == 1
    assert "2 more deliveries are left out here" in one.words
    assert "Who did not get it" not in one.words


@pytest.mark.parametrize("query", ["entity=x", "from=yesterday", "outcome=x", "below=x", "to=9999-99-99"])
async def test_a_wrong_search_says_so(reader: Reader, query: str) -> None:
    page = await reader.get(f"/console/events?{query}")

    assert (page.status, query.partition("=")[0] in page.words.lower()) == (400, True)


async def test_an_event_that_is_not_kept(reader: Reader) -> None:
    assert (await reader.get("/console/events/one?id=none")).status == 404


async def test_nothing_of_a_payload_is_markup(here: ConsoleHere, reader: Reader) -> None:
    await add_pim(reader)
    await here.subscribe(url="http://127.0.0.1:1/hook", filter=None)
    data = {"product": {"uuid": HOSTILE, "name": HOSTILE}, "big": "x" * 1_000_000}
    event = replace(with_data(an_event(entity=HOSTILE), data), id=HOSTILE)
    await here.platform.parts.manage.intake.accept(PIM, [event])
    pages = [
        await reader.get("/console/events"),
        await reader.get("/console/events/one", params={"id": HOSTILE}),
        await reader.get("/console/events", params={"id": HOSTILE, "entity": f"product:{HOSTILE}"}),
        await reader.get("/console/log", params={"subscription": HOSTILE}),
    ]

    assert [page.status for page in pages] == [200] * 4
    for page in pages:
        assert "<script>alert" not in page.text
        assert len(page.text) < 300_000


async def test_the_log_is_filtered(here: ConsoleHere, reader: Reader) -> None:
    first, second = await here.subscribe(2)
    await reader.submit(f"/console/subscriptions/{first.id}/suspend")
    everything = await reader.get("/console/log")
    suspensions = await reader.get("/console/log?operation=subscription_suspended_by_the_operator")
    errors = await reader.get("/console/log?type=error")
    of_second = await reader.get(f"/console/log?subscription={second.id}")
    of_nobody = await reader.get("/console/log?subscription=none")

    for page in (everything, suspensions):
        assert f"/console/subscriptions/{first.id}" in page.text
    for page in (errors, of_nobody):
        assert "No entry is like that" in page.words
    assert f"/console/subscriptions/{second.id}" in of_second.text
    assert f"/console/subscriptions/{first.id}" not in of_second.text


async def test_the_log_is_narrowed_by_time_and_reason(here: ConsoleHere, reader: Reader) -> None:
    (subscription,) = await here.subscribe()
    path = f"/console/subscriptions/{subscription.id}"
    queries = ("from=2020-01-01", "to=2020-01-01", "reason=destination_timeout", "reason=strange")
    shown = [path in (await reader.get(f"/console/log?{query}")).text for query in queries]
    wrong = await reader.get("/console/log?from=yesterday")

    assert shown == [True, False, False, True]
    assert (wrong.status, "From: not an RFC 3339" in wrong.words) == (400, True)


async def test_the_log_has_pages(here: ConsoleHere, reader: Reader) -> None:
    subscriptions = await here.subscribe(20)
    for _ in range(3):
        for act in ("suspend", "resume"):
            for each in subscriptions[:10]:
                await reader.submit(f"/console/subscriptions/{each.id}/{act}", {"catch_up": "no"})
    first = await reader.get("/console/log")
    older = re.search(r'href="(/console/log\?[^"]*after=[^"]*)"', first.text)
    assert older is not None
    second = await reader.get(older[1].replace("&amp;", "&"))

    assert first.text.count("<tr>") == 51
    assert second.text.count("<tr>") == 1 + 20 + 1 + 60 - 50


async def test_health_shows_settings_without_secrets(tmp_path: Path) -> None:
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    async with console_here(tmp_path, secrets_key=key, keep=3600) as here, here.reader() as reader:
        page = await reader.get("/console/health")

    assert key not in page.text
    assert "AEP_SECRETS_KEY hidden yes" in page.words
    assert "AEP_KEEP 3600.0 yes" in page.words
    assert str(tmp_path) in page.words


def test_a_list_of_pims_with_its_secrets_is_not_shown() -> None:
    listed = '[{"url": "https://pim.example.com", "ingest_key": "a-secret-of-the-list"}]'
    shown = {name: value for name, value, _ in settings_shown(Settings(pims=listed))}

    assert shown["AEP_PIMS"] == "a list"


async def test_an_event_is_tried_and_sent(here: ConsoleHere, reader: Reader) -> None:
    none = await reader.get("/console/try")
    await add_pim(reader)
    got, not_got = await here.subscribe(filter=None), await here.subscribe(events=["x.y"])
    start = await reader.get(f"/console/try?type={UPDATED}")
    event = orjson.dumps(
        {
            "type": UPDATED,
            "data": {
                "product": {"uuid": "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"},
                "author": {"identifier": "julia", "type": "user"},
            },
        }
    ).decode()
    looked = await reader.submit("/console/try", {"pim": PIM, "event": event, "act": "look"})
    assert "No kept event is like that" in (await reader.get("/console/events")).words
    sent = await reader.submit("/console/try", {"pim": PIM, "event": event, "act": "send"})
    link = re.search(r'href="(/console/events/one\?id=[^"]*)"', sent.text)
    assert link is not None

    assert "No PIM is known yet" in none.words
    assert UPDATED in start.words
    assert "Send it to those who get it" in looked.words
    assert looked.text.index(got[0].id) < looked.text.index(not_got[0].id)
    assert got[0].config.destination in (await reader.get(link[1])).words


async def test_of_many_pims_one_is_tried(tmp_path: Path) -> None:
    listed = [{"url": f"https://pim{number:04}.example.com"} for number in range(1_000)]
    data = {"product": {"uuid": "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"}}
    event = orjson.dumps(
        {"type": UPDATED, "data": {**data, "author": {"identifier": "julia", "type": "user"}}}
    )
    fields = {"event": event.decode(), "act": "look"}
    async with console_here(tmp_path, pims=orjson.dumps(listed).decode()) as here, here.reader() as reader:
        page = await reader.get("/console/try")
        answers = {
            text: await reader.submit("/console/try", {"pim": text, **fields})
            for text in ("https://pim0700.example.com", "PIM0700", "pim07", "nothing", "")
        }

    assert page.text.count("https://pim") == PIMS_OFFERED
    assert len(page.text) < 20_000
    for text in ("https://pim0700.example.com", "PIM0700"):
        assert "The PIM has no subscriptions." in answers[text].words
    assert "100 PIMs are like that, such as https://pim0700.example.com, " in answers["pim07"].words
    for text in ("nothing", ""):
        assert "this one is not known" in answers[text].words
    assert [each.status for each in answers.values()] == [200, 200, 400, 400, 400]


@pytest.mark.parametrize(
    ("event", "status"),
    [("{", 400), ("[]", 400), ('{"type": "x"}', 400), ("{}", 400), ('{"a":' + "[" * 6000, 400)],
)
async def test_an_event_that_is_none_is_not_tried(reader: Reader, event: str, status: int) -> None:
    await add_pim(reader)
    page = await reader.submit("/console/try", {"pim": PIM, "event": event, "act": "send"})

    assert page.status == status


async def test_dead_letters_are_replayed_and_dropped(here: ConsoleHere, reader: Reader) -> None:
    empty = await reader.get("/console/dead")
    asked = await reader.get("/console/dead/replay")
    strange = await reader.get("/console/dead/replay?id=x")
    nothing = await reader.submit("/console/dead/drop", {"ids": ""})
    gone = await reader.submit("/console/dead/drop", {"ids": "4711"})

    assert "There are none." in empty.words
    assert "None was chosen." in asked.words
    assert (strange.status, nothing.status) == (400, 400)
    assert "They are dropped." in gone.words
