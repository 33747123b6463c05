"""`aep logs` and `aep status` on a folder, with a platform running on it."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from support import one_pim
from support.aep_here import run
from support.processes import Child, command, server, until


@dataclass(frozen=True)
class Logged:
    folder: Path
    serve: Child
    subscription: str

    def lines(self, *arguments: str) -> list[Any]:
        found = run(*arguments, "--json", "--data", str(self.folder / "data"))
        assert found.status == 0, found
        return [orjson.loads(line) for line in found.out.splitlines()]

    def text(self, *arguments: str) -> str:
        found = run(*arguments, "--data", str(self.folder / "data"))
        assert found.status == 0, found
        return found.out

    def at_80_columns(self, *arguments: str) -> str:
        return run(*arguments, "--data", str(self.folder / "data"), settings={"COLUMNS": "80"}).out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """One delivery that was answered 404, one subscription, suspended by that, and a refused call."""
    folder = tmp_path_factory.mktemp("log-commands")
    with ExitStack() as stack:
        inbox = stack.enter_context(server(folder, "inbox"))
        serve = stack.enter_context(one_pim.serve(folder))
        subscription = one_pim.subscribe(serve, f"{inbox.url}/404")
        one_pim.client_of(serve).call("POST", "/subscribers", {}, expect=400)
        one_pim.emit(serve)
        world = Logged(folder, serve, subscription)
        until(lambda: any(line["error_type"] == "failed_delivery" for line in world.lines("logs")), "the end")
        yield world


def test_logs_shows_all_entries_oldest_first(world: Logged) -> None:
    assert [line["operation"] for line in world.lines("logs")] == [
        "subscriber_created_by_the_user",
        "subscription_created_by_the_user",
        "request_refused",
        "failed_to_deliver_event",
        "subscription_suspended_by_the_platform",
    ]
    table = world.text("logs")
    assert "request_refused" in table
    assert "destination_not_found" in table


def test_logs_of_a_subscription_and_of_a_type(world: Logged) -> None:
    chosen = world.lines("logs", "--subscription", world.subscription)
    assert [line["log_type"] for line in chosen] == ["action", "error", "action"]
    assert len(world.lines("logs", "--type", "error", "--subscription", world.subscription)) == 1
    assert len(world.lines("logs", "--limit", "1")) == 1
    unknown = run("logs", "--subscription", "x", "--data", str(world.folder / "data"))
    assert (unknown.status, unknown.out) == (2, "")
    assert "no subscription x" in unknown.err


def test_follow_shows_what_comes_until_it_is_stopped(world: Logged) -> None:
    arguments = ("logs", "--follow", "--json", "--data", str(world.folder / "data"))
    with command(world.folder, *arguments) as child:
        until(lambda: "failed_to_deliver_event" in child.stdout(), "what there is")
        one_pim.client_of(world.serve).call("POST", "/subscribers", {"name": "x"}, expect=400)
        until(lambda: "contact" in child.stdout(), "what comes")
        child.send(signal.SIGINT)
        assert child.wait() == 0


def test_status_shows_each_subscription(world: Logged) -> None:
    ((state,),) = world.lines("status")
    assert (state["id"], state["status"]) == (world.subscription, "suspended")
    assert (state["queued"], state["retries"], state["ended"]) == (0, 0, 1)
    assert state["last_error"]
    assert (state["rate"] >= 10, state["lanes"]) == (True, 16)
    table = world.text("status")
    assert world.subscription in table
    assert state["destination"] in table
    assert "/s" in table
    until(lambda: "last hour     0 delivered, 1 failed\n" in world.at_80_columns("status"), "the count")
    assert world.at_80_columns("status").startswith(f"{world.subscription}  Tests  suspended\n")


def test_the_json_of_status_is_as_it_was(world: Logged) -> None:
    ((state,),) = world.lines("status")
    assert list(state) == [
        "id",
        "subscriber_id",
        "tenant",
        "client_id",
        "destination",
        "status",
        "rate",
        "lanes",
        "attempts",
        "success_rate",
        "queued",
        "retries",
        "ended",
        "last_error",
        "last_error_at",
        "last_failure",
        "last_failure_at",
    ]


def test_there_must_be_a_store(tmp_path: Path) -> None:
    for name in ("logs", "status"):
        assert "there is no store" in run(name, "--data", str(tmp_path)).err
