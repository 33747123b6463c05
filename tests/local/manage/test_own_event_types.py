"""A type that the operator added, on its whole way: subscribed to, taken in, delivered and described."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest

from support.one_pim import INGEST_KEY, PRIMARY, arguments, client_of
from support.processes import Child, delivered, http, send_events, server
from support.records import ORDER, ORDER_TYPE


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("inbox"), "inbox", "--quiet", "--secret", PRIMARY) as child:
        yield child.url


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("own-types")
    file = folder / "types.json"
    file.write_bytes(orjson.dumps([ORDER_TYPE]))
    with server(folder, *arguments(folder), settings={"AEP_EVENT_TYPES": str(file)}) as child:
        yield child


def subscription(url: str, *events: str) -> dict[str, Any]:
    return {"events": events, "type": "https", "config": {"url": url, "secret": {"primary": PRIMARY}}}


def subscriptions_of_a_new_subscriber(serve: Child) -> str:
    body = {"name": "Shop", "contact": {"technical_email": "ops@example.com"}}
    return (
        f"/subscribers/{client_of(serve).call('POST', '/subscribers', body, expect=201)['id']}/subscriptions"
    )


def test_it_is_delivered_and_its_schema_is_served_where_the_delivery_says(serve: Child, inbox: str) -> None:
    path = subscriptions_of_a_new_subscriber(serve)
    client_of(serve).call("POST", path, subscription(f"{inbox}/hook", ORDER), expect=201)
    assert (
        send_events(serve.url, INGEST_KEY, {"id": "order-1", "type": ORDER, "data": ORDER_TYPE["example"]})
        == 202
    )
    taken = delivered(inbox, "/hook", "order-1")
    assert (taken["type"], taken["verified"]) == (ORDER, True)
    schema = http().get(f"{serve.url}/spec/{ORDER}.schema.json", timeout=10)
    assert schema.json() == {**ORDER_TYPE["schema"], "$id": f"{serve.url}/spec/{ORDER}.schema.json"}
    assert jsonschema_rs.Draft202012Validator(schema.json(), offline=True).is_valid(ORDER_TYPE["example"])


def test_data_that_do_not_fit_its_schema_are_refused(serve: Child) -> None:
    assert send_events(serve.url, INGEST_KEY, {"id": "order-2", "type": ORDER, "data": {}}) == 400


def test_it_is_in_every_description(serve: Child) -> None:
    def get(path: str) -> Any:
        return http().get(serve.url + path, timeout=10).json()

    assert ORDER in [each["type"] for each in get("/spec/")["types"]]
    assert ORDER in get("/asyncapi.json")["components"]["messages"]
    assert ORDER in get("/openapi.json")["components"]["schemas"]["EventType"]["enum"]


def test_it_is_unknown_where_it_was_not_added(tmp_path: Path, inbox: str) -> None:
    with server(tmp_path, *arguments(tmp_path)) as other:
        path = subscriptions_of_a_new_subscriber(other)
        answer = client_of(other).call("POST", path, subscription(f"{inbox}/hook", ORDER))
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "events.0"
        event = {"id": "order-3", "type": ORDER, "data": ORDER_TYPE["example"]}
        assert send_events(other.url, INGEST_KEY, event) == 400
