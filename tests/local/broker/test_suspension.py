"""Suspension and revocation by the platform, from ingest to the log, over sockets."""

import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support import one_pim
from support.processes import Child, http, received, send_events, server, until, with_metrics

EVENTS = 60


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, str]]:
    """A platform, and the URL of an inbox."""
    folder = tmp_path_factory.mktemp("suspension")
    with ExitStack() as stack:
        inbox = stack.enter_context(server(folder, "inbox"))
        platform = stack.enter_context(one_pim.serve(folder, settings=with_metrics()))
        yield platform, inbox.url


def log(platform: Child, subscription: str) -> list[dict[str, Any]]:
    path = f"/logs?subscription_id={subscription}&order=asc"
    return one_pim.client_of(platform).call("GET", path, expect=200)["items"]


def metrics(platform: Child) -> Counter[str]:
    """Each family's sum over its labels."""
    sums: Counter[str] = Counter()
    for line in http().get(platform.metrics, timeout=10).text.splitlines():
        if found := re.fullmatch(r"(aep_[a-z_]+)(?:\{.*\})? (\S+)", line):
            sums[found[1]] += round(float(found[2]))
    return sums


@pytest.mark.parametrize(("path", "status"), [("/404", 404), ("/redirect", 302)])
def test_an_endpoint_that_is_gone_is_suspended_and_every_delivery_is_accounted_for(
    serve: tuple[Child, str], path: str, status: int
) -> None:
    platform, inbox = serve
    before = metrics(platform)
    subscription = one_pim.subscribe(platform, f"{inbox}{path}")
    one_pim.emit(platform, EVENTS)

    def grown(family: str) -> int:
        return metrics(platform)[family] - before[family]  # of a page that may be older than the last request

    until(lambda: grown("aep_deliveries_ended_total") == EVENTS, "the end of every delivery")
    sent = len(received(inbox, path))
    assert 1 <= sent <= 16  # one in each lane at most

    one_pim.emit(platform)  # nobody's any more
    time.sleep(0.2)
    assert len(received(inbox, path)) == sent

    entries = log(platform, subscription)
    (suspended,) = [each for each in entries if each["operation"].startswith("subscription_suspended")]
    assert suspended["operation"] == "subscription_suspended_by_the_platform"
    assert suspended["error_message"] == f"the endpoint answered {status}"
    assert suspended["response"]["status"] == "suspended"
    ended = {
        each["operation"]: each["occurrences"]
        for each in entries
        if each.get("error_type") == "failed_delivery"
    }
    assert ended["failed_to_deliver_event"] == sent
    assert sum(ended.values()) == EVENTS
    assert grown("aep_deliveries_accepted_total") == EVENTS
    assert grown("aep_deliveries_ended_total") == EVENTS


def test_a_connection_that_is_removed_from_the_pim_takes_its_subscriptions_along(
    serve: tuple[Child, str],
) -> None:
    platform, inbox = serve
    subscription = one_pim.subscribe(platform, f"{inbox}/ok")
    author = {"identifier": "julia", "type": "user"}
    removed = {
        "id": str(uuid.uuid4()),
        "type": "com.akeneo.pim.v1.connection.deleted",
        "data": {"connection": {"client_id": "erp"}, "author": author},
    }
    assert send_events(platform.url, one_pim.INGEST_KEY, removed) == 202
    one_pim.emit(platform)
    (*_, revoked) = log(platform, subscription)
    assert revoked["operation"] == "subscription_revoked_by_the_platform"
    assert revoked["error_message"] == "the connection was removed from the PIM"
    client = one_pim.client_of(platform)
    rows = client.call("GET", "/subscribers", expect=200)
    assert {row["status"] for row in rows} == {"revoked"}
    path = f"/subscribers/{revoked['subscriber_id']}/subscriptions/{subscription}"
    assert client.call("GET", path, expect=200)["status"] == "revoked"
    client.call("POST", f"{path}/resume", expect=409)
    client.call("DELETE", path, expect=200)
    time.sleep(0.2)
    assert received(inbox, "/ok") == []
