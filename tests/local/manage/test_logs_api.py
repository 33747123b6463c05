"""`GET /api/v1/logs` against contract/wire.md 13: what calls leave in the log, and how it is read."""

import itertools
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from aep.store import migrations, opening, schema
from aep.store.logs import read, sql_of
from event_platform.domain.record.logs import LogQuery, LogType, Operation, Position
from event_platform.domain.subscriptions import Owner
from event_platform.manage.logs import EXPLANATIONS
from support.management import (
    PRIMARY,
    REDACTED,
    WEBHOOK,
    Client,
    ManageApi,
    config,
    path_of,
    request,
    subscriber_body,
    subscription_body,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = [
    "log_id",
    "log_type",
    "timestamp",
    "operation",
    "subscriber_id",
    "subscription_id",
    "request",
    "response",
    "occurrences",
    "events",
]
"""The fields of an action's entry; one of a subscriber has no subscription_id."""
SECRET = "a-secret-that-nobody-may-ever-see"


async def items(client: Client, query: str = "") -> list[dict[str, Any]]:
    return (await client.get(f"/logs{query}"))["items"]


async def test_an_empty_log(client: Client) -> None:
    assert await client.get("/logs") == {"items": [], "next_cursor": None}


async def test_each_call_that_changes_something_leaves_an_entry(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    path = path_of(row)
    await client.changed(path, {"send_product_identifier": True})
    for verb in ("suspend", "suspend", "resume", "resume"):
        await client.call("POST", f"{path}/{verb}")
    await client.call("DELETE", path)
    await client.changed(path_of(subscriber), {"name": "Another"})
    await client.changed(path_of(subscriber), {"name": "Another"})
    second = await client.subscription(subscriber)
    await client.call("DELETE", path_of(subscriber))
    found = await items(client, "?order=asc")
    assert [
        (entry["operation"], entry.get("subscription_id"), entry["request"]["method"]) for entry in found
    ] == [
        ("subscriber_created_by_the_user", None, "POST"),
        ("subscription_created_by_the_user", row["id"], "POST"),
        ("subscription_updated_by_the_user", row["id"], "PATCH"),
        ("subscription_suspended_by_the_user", row["id"], "POST"),
        ("subscription_resumed_by_the_user", row["id"], "POST"),
        ("subscription_deleted_by_the_user", row["id"], "DELETE"),
        ("subscriber_updated_by_the_user", None, "PATCH"),
        ("subscription_created_by_the_user", second["id"], "POST"),
        ("subscriber_deleted_by_the_user", None, "DELETE"),
        ("subscription_deleted_by_the_user", second["id"], "DELETE"),
    ]
    assert all(
        list(entry)
        == [key for key in KEYS if key != "subscription_id" or "subscription_" in entry["operation"]]
        for entry in found
    )
    created = found[1]
    assert created["log_type"] == "action"
    assert created["response"] == row
    assert created["request"]["body"]["config"] == config(secret={"primary": REDACTED})
    assert created["request"]["url"] == f"/api/v1{path_of(subscriber)}/subscriptions"


async def test_an_entry_has_the_form_of_the_public_sample(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/suspend")
    (entry,) = await items(client, "?operation=subscription_suspended_by_the_user")
    assert entry["request"] == {"body": "", "method": "POST", "url": f"/api/v1{path_of(row)}/suspend"}
    await client.call("GET", "/logs?limit=x")
    refused = (await items(client))[0]
    assert refused["request"] == {"body": "", "method": "GET", "url": "/api/v1/logs"}
    assert list(refused) == [
        *("log_id", "log_type", "timestamp", "operation", "error_type", "error_code", "error_message"),
        *("request", "response", "occurrences", "events"),
    ]


async def test_what_is_refused_is_logged_once_with_its_answer(client: Client) -> None:
    subscriber = await client.subscriber()
    await client.call("PATCH", path_of(subscriber), {"name": ""})
    answer = await client.call("PATCH", path_of(subscriber), {"name": ""})
    entry = (await items(client, "?log_type=error"))[0]
    assert entry["occurrences"] == 2
    assert (entry["operation"], entry["error_type"], entry["error_code"]) == (
        "request_refused",
        "validation_error",
        400,
    )
    assert entry["response"] == answer.body
    assert entry["request"]["body"] == {"name": ""}
    assert entry["subscriber_id"] == subscriber["id"]
    assert entry["error_message"] == answer.message()
    assert "documentation_url" not in entry


@pytest.mark.parametrize("data", [b"{", b"", b'"\\ud800"', b'{"name":123456789012345678901234567890}'])
async def test_a_body_that_is_no_json_object_is_logged_too(client: Client, data: bytes) -> None:
    answer = await client.send("POST", "/subscribers", data, content_type="application/json")
    assert answer.status == 400
    assert len(await items(client)) == 1


async def test_other_refusals_are_not_logged(client: Client) -> None:
    subscriber = await client.subscriber()
    await client.call("GET", "/subscribers/unknown")
    await client.send("POST", "/subscribers", b"x", content_type="text/plain")
    await client.call("DELETE", path_of(subscriber))
    await client.call("DELETE", path_of(subscriber))
    assert len(await items(client)) == 2


SECRET_BODIES: list[Any] = [
    SECRET,
    [SECRET],
    {"config": SECRET},
    {"secret": SECRET},
    {"password": {"deep": [SECRET]}},
    subscription_body(config=config(secret=SECRET)),
    subscription_body(config=config(secret=[SECRET])),
    subscription_body(config=config(secret={"primary": SECRET, "secondary": SECRET})),
    subscription_body(config=config(secret={"primaryy": SECRET})),
    subscription_body(config=config(headers={"X-Key": SECRET})),
    subscription_body(config=config(headers=[{"X-Key": SECRET}])),
    subscription_body(config=config(headers={"X-Key": {"value": SECRET}})),
    subscription_body(config=config(url=f"https://user:{SECRET}@example.com/")),
    subscription_body(config=config(secret={"primary": SECRET}), filter=f"again {SECRET}"),
    subscription_body(
        type="kafka",
        config={
            "broker": "kafka.example.com:9092",
            "topic": "events",
            "sasl_auth": {"mechanism": "plain", "username": "aep", "password": SECRET},
            "tls": {"client_key_pem": SECRET, "ca_pem": f"-----BEGIN PRIVATE KEY-----{SECRET}"},
        },
    ),
    subscriber_body(notification_webhook_secret=SECRET, notification_webhook_url="nonsense"),
    {"Name": SECRET, "contact": [SECRET]},
]


@pytest.mark.parametrize("body", SECRET_BODIES)
async def test_no_secret_is_shown_wherever_it_stands(client: Client, body: Any) -> None:
    subscriber = await client.subscriber()
    for method, path in [
        ("POST", "/subscribers"),
        ("PATCH", path_of(subscriber)),
        ("POST", f"{path_of(subscriber)}/subscriptions"),
    ]:
        await client.call(method, path, body)
    found = await items(client)
    assert len(found) > 1
    assert SECRET not in orjson.dumps(found).decode()


async def test_the_secrets_of_what_was_accepted_are_not_shown(client: Client) -> None:
    subscriber = await client.subscriber(notification_channels=["webhook"], **WEBHOOK)
    row = await client.subscription(subscriber, config=config(headers={"X-Key": SECRET}))
    await client.changed(path_of(row), {"config": config(headers={"X-Key": SECRET + "2"})})
    found = orjson.dumps(await items(client)).decode()
    for secret in (SECRET, PRIMARY, WEBHOOK["notification_webhook_secret"]):
        assert secret not in found
    assert "X-Key" in found


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x" * 250_000},
        {str(n): n for n in range(4_000)},
        {"events": ["x" * 200] * 1000, "type": "https", "config": {}},
        {"events": ["\u00e9" * 120] * 1000, "filter": "x" * 400, "type": "https", "config": {}},
    ],
)
async def test_an_entry_is_bounded_however_large_the_body(client: Client, body: Any) -> None:
    subscriber = await client.subscriber()
    await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    entry, _ = await items(client)
    assert entry["operation"] == "request_refused"
    assert len(orjson.dumps(entry)) < 32 * 1024


async def test_an_entry_of_another_client_is_never_shown(client: Client, other: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    await client.call("POST", "/subscribers", {})
    assert len(await items(client)) == 3
    for query in (
        "",
        f"?subscriber_id={subscriber['id']}",
        f"?subscription_id={row['id']}",
        "?log_type=action",
        "?operation=request_refused",
    ):
        assert await items(other, query) == []
    cursor = (await client.get("/logs?limit=1"))["next_cursor"]
    assert await items(other, f"?cursor={cursor}") == []


async def test_filters_each_and_combined(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    await client.subscription(subscriber)
    await client.call("PATCH", path_of(row), {"events": []})
    sid, id_ = subscriber["id"], row["id"]
    for query, number in [
        ("log_type=action", 3),
        ("log_type=error", 1),
        ("operation=subscription_created_by_the_user", 2),
        ("error_reason=connection_refused", 0),
        (f"subscriber_id={sid}", 4),
        (f"subscription_id={id_}", 2),
        (f"subscription_id={id_}&log_type=error", 1),
        (f"subscription_id={id_}&subscriber_id={sid}", 2),
        (f"subscription_id={id_}&subscriber_id=other", 0),
        (f"subscriber_id={sid}&operation=request_refused", 1),
        ("log_type=action&operation=request_refused", 0),
        ("unknown=1&log_type=action", 3),
        ("to=2000-01-01T00:00:00Z", 0),
        ("from=2000-01-01T00:00:00Z", 4),
        ("from=2000-01-01T00:00:00%2B02:00&to=2100-01-01T00:00:00Z&limit=2", 2),
    ]:
        assert len(await items(client, f"?{query}")) == number, query


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("log_type=x", {"log_type"}),
        ("operation=x&error_reason=y", {"operation", "error_reason"}),
        ("subscriber_id=", {"subscriber_id"}),
        ("subscription_id=" + "x" * 65, {"subscription_id"}),
        ("from=yesterday&to=2026-02-30T00:00:00Z", {"from", "to"}),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", {"from"}),
        ("order=up", {"order"}),
        *(
            (f"limit={wrong}", {"limit"})
            for wrong in ("0", "000", "-1", "1.5", "x", "", "%2B5", "1_0", "%D9%A3")
        ),
        *((f"cursor={quote(wrong)}", {"cursor"}) for wrong in ("", "x", "W10", "WyJkZXNjIiwxLDFd", "é", "=")),
        ("limit=1&limit=2", {"limit"}),
        ("from=2026-01-01T00:00:00Z&dateFrom=2026-01-01", {"dateFrom"}),
        ("date_from=2026-01-03&date_to=2026-01-01", {"date_from"}),
        ("date_from=2026-02-30&limit=x&page=2&Offset=1", {"date_from", "limit", "page", "Offset"}),
    ],
)
async def test_every_wrong_parameter_is_named(client: Client, query: str, fields: set[str]) -> None:
    assert (await client.call("GET", f"/logs?{query}")).fields() == fields


@pytest.mark.parametrize("name", ["page", "pageNumber", "offset", "skip", "search_after", "start"])
async def test_a_client_that_numbers_pages_is_told_of_the_cursor(client: Client, name: str) -> None:
    await client.call("POST", "/subscribers", subscriber_body())
    answer = await client.call("GET", f"/logs?{name}=1")
    assert (answer.status, answer.fields()) == (400, {name})
    assert "send next_cursor of an answer as cursor" in answer.message()


@pytest.mark.parametrize("limit", ["101", "200", "0500", "9" * 400])
async def test_a_larger_limit_is_lowered_and_the_answer_says_so(client: Client, limit: str) -> None:
    subscriber = await client.subscriber()
    for number in range(100):
        await client.changed(path_of(subscriber), {"name": f"Name {number}"})
    page = await client.get(f"/logs?limit={limit}")
    assert len(page["items"]) == 100
    assert page["next_cursor"]
    lowered = "limit: was lowered to 100, the most that one page holds"
    assert page["warnings"] == [{"message": lowered, "field": "limit"}]
    rest = await client.get(f"/logs?page_size={limit}&cursor={page['next_cursor']}")
    assert len(rest["items"]) == 1
    assert rest["warnings"][0]["field"] == "page_size"
    assert "warnings" not in await client.get("/logs?limit=100")


async def test_unknown_parameters_are_ignored_and_named(client: Client) -> None:
    page = await client.get("/logs?nonsense=1&log_type=action&nonsense=2&Sort=up&" + "x" * 70 + "=1")
    assert page["items"] == []
    assert page["warnings"] == [
        {"message": f"{name}: is unknown and was ignored", "field": name}
        for name in ("nonsense", "Sort", "x" * 64)
    ]
    many = await client.get("/logs?" + "&".join(f"n{number}=1" for number in range(500)))
    assert len(many["warnings"]) == 20


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("date_from=2000-01-01T00:00:00Z", 2),
        ("dateFrom=2000-01-01&date-to=2999-12-31", 2),
        ("since=2999-01-01T00:00:00Z", 0),
        ("until=2000-01-01T00:00:00Z", 0),
        ("start_date=2000-01-01&end_date=9999-12-31", 2),
        ("type=action", 1),
        ("logType=error", 1),
        ("reason=connection_refused", 0),
        ("subscriberId=unknown", 0),
        ("per_page=1", 1),
        ("LIMIT=1&sort_order=DESC", 1),
    ],
)
async def test_a_name_whose_meaning_is_plain_is_taken(client: Client, query: str, number: int) -> None:
    await client.subscriber()
    await client.call("POST", "/subscribers", {})
    page = await client.get(f"/logs?{query}")
    assert len(page["items"]) == number
    assert "warnings" not in page


@pytest.mark.parametrize("path", ["/subscribers", "/subscribers/{}/subscriptions"])
async def test_lists_that_are_given_whole_have_no_pages(client: Client, path: str) -> None:
    subscriber = await client.subscriber()
    await client.subscription(subscriber)
    path = path.format(subscriber["id"])
    assert len(await client.get(f"{path}?limit=1&unknown=x")) == 1
    for name in ("page", "offset", "searchAfter"):
        answer = await client.call("GET", f"{path}?{name}=2")
        assert (answer.status, answer.fields()) == (400, {name})
        assert "holds the whole list" in answer.message()


@pytest.mark.parametrize(
    "other",
    [
        "order=asc&log_type=action",
        "",
        "log_type=error",
        "operation=subscriber_created_by_the_user",
        "log_type=action&subscriber_id=x",
        "log_type=action&subscription_id=x",
        "error_reason=destination_timeout",
    ],
)
async def test_a_cursor_of_another_list_is_refused(client: Client, other: str) -> None:
    for name in ("One", "Two"):
        await client.call("POST", "/subscribers", subscriber_body() | {"name": name})
    cursor = (await client.get("/logs?log_type=action&limit=1"))["next_cursor"]
    assert (await client.call("GET", f"/logs?{other}&cursor={cursor}")).fields() == {"cursor"}
    page = f"log_type=action&limit=5&from=2000-01-01T00:00:00Z&cursor={cursor}"
    assert len(await items(client, f"?{page}")) == 1


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_paging_with_entries_arriving_in_between(client: Client, order: str) -> None:
    subscriber = await client.subscriber()
    for number in range(6):
        await client.changed(path_of(subscriber), {"name": f"Name {number}"})
    before = [entry["log_id"] for entry in await items(client, f"?order={order}")]
    seen: list[str] = []
    cursor, more = "", 0
    while cursor is not None:
        page = await client.get(
            f"/logs?order={order}&limit=2&cursor={cursor}" if cursor else f"/logs?order={order}&limit=2"
        )
        seen += [entry["log_id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if more < 3:
            more += 1
            await client.changed(path_of(subscriber), {"name": f"More {more}"})
    assert [entry for entry in seen if entry in before] == before
    assert len(set(seen)) == len(seen)


async def test_fifty_by_default(client: Client) -> None:
    subscriber = await client.subscriber()
    for number in range(51):
        await client.changed(path_of(subscriber), {"name": f"Name {number}"})
    page = await client.get("/logs")
    assert len(page["items"]) == 50
    assert len(await items(client, "?limit=100")) == 52
    assert page["next_cursor"]


async def test_the_log_needs_credentials(world: ManageApi) -> None:
    assert (await request(world, "GET", f"{world.url}/logs", None, {})).status == 401


async def test_every_error_is_explained_without_credentials(world: ManageApi) -> None:
    base = world.url.removesuffix("/api/v1")
    for name, text in EXPLANATIONS.items():
        answer = await request(world, "GET", f"{base}/docs/errors/{name}", None, {})
        assert (answer.status, answer.body) == (200, {"error": name, "explanation": text})
    assert (await request(world, "GET", f"{base}/docs/errors/x", None, {})).status == 404


# The plans of the queries


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with many entries of a few clients."""
    path = tmp_path_factory.mktemp("many") / "aep.db"
    with opening.connect(path) as connection:
        migrations.prepare(connection)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO log_entries VALUES (?, 'https://pim.example.com', ?, ?, ?, ?, ?, ?, 'm', ?, 500,"
            " 'x', NULL, NULL, 1, '[]', ?, ?)",
            (
                (
                    f"{n:032}",
                    f"client-{n % 3}",
                    "error" if n % 2 else "action",
                    "failed_to_deliver_event" if n % 2 else "subscription_updated_by_the_user",
                    f"sid-{n // 2 % 5}",
                    f"id-{n // 2 % 5}",
                    "failed_delivery" if n % 2 else None,
                    "connection_refused" if n % 2 else None,
                    float(n),
                    float(n),
                )
                for n in range(20_000)
            ),
        )
        connection.execute("COMMIT")
    return path


SCOPES: list[dict[str, Any]] = [
    {},
    {"subscriber_id": "sid-1"},
    {"subscription_id": "id-1"},
    {"subscriber_id": "sid-1", "subscription_id": "id-1"},
]
KINDS: list[dict[str, Any]] = [
    {},
    {"log_type": LogType.ERROR},
    {"operation": Operation.FAILED},
    {"error_reason": "connection_refused"},
    {"log_type": LogType.ERROR, "operation": Operation.FAILED, "error_reason": "connection_refused"},
]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(("scope", "kind"), list(itertools.product(SCOPES, KINDS)))
async def test_every_query_is_a_search_in_an_index_that_has_its_order(
    many: Path, scope: dict[str, Any], kind: dict[str, Any], *, newest_first: bool
) -> None:
    owner = Owner("https://pim.example.com", "client-1")
    query = LogQuery(**scope, **kind, newest_first=newest_first, after=Position(10_000.0, f"{10_000:032}"))
    with opening.connect(many) as connection:
        statement, values = sql_of(owner, query)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert len(plan) == 1
        assert plan[0].startswith("SEARCH log_entries USING INDEX log_entries_of"), plan
        equal = 2 + bool(scope) + bool(kind)
        assert plan[0].count("=?") == equal, plan
        assert "(at,id)" in plan[0]
        found = read(connection, owner, query)
        assert len(found) == 50
        in_order = [entry.at for entry in found]
        assert in_order == sorted(in_order, reverse=newest_first)


async def test_an_older_store_keeps_its_entries_and_learns_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opening.connect(tmp_path / "aep.db") as connection:
        with monkeypatch.context() as patched:
            patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
            migrations.prepare(connection)
        connection.execute(
            "INSERT INTO subscriptions VALUES (1, 'id-1', 'sid-1', 'https://pim.example.com', 'active', 0,"
            ' \'{"client_id": "erp"}\')'
        )
        for entry, subscription in (("known", "id-1"), ("unknown", "id-2")):
            connection.execute(
                "INSERT INTO log_entries VALUES (?, ?, 'failed_to_deliver_event', 'answered 503',"
                " 'destination_failure', 503, 'x', 7, '[]', 1.5, 2.5)",
                (entry, subscription),
            )
        migrations.prepare(connection)
        (entry,) = read(connection, Owner("https://pim.example.com", "erp"), LogQuery())
        assert (entry.id, entry.subscriber_id, entry.subscription_id) == ("known", "sid-1", "id-1")
        assert (entry.error_code, entry.response) == (503, {"status": 503, "body": "x"})
        assert (entry.occurrences, entry.at.timestamp()) == (7, 2.5)
        assert len(read(connection, None, LogQuery())) == 2


async def test_there_is_no_index_without_a_query() -> None:
    assert (
        len({schema.log_index(*pair) for pair in itertools.product(schema.LOG_SCOPES, schema.LOG_KINDS)})
        == 12
    )
