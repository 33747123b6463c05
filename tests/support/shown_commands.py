"""The output of commands in a folder that has all there is to show, but for what differs from run to run."""

import asyncio
import base64
import io
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

from event_platform.domain.attempts import signatures
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from support.aep_here import Ended, run
from support.clock import START
from support.embedded import Embedded
from support.records import PIM, UPDATED, an_event
from support.shown_records import RECORD, SUBSCRIBER, id_of

KEY = base64.b64encode(bytes([1]) * 32).decode()
OLD_PIM = "https://old.example.com"


# Replacing what differs from run to run


_REPLACED: Sequence[tuple[str, Callable[[re.Match[str]], str]]] = (
    (r"(?<=/tmp/golden-)\w{8}", lambda _: "xxxxxxxx"),
    (
        r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?",
        lambda found: "2026-01-31T12:00:00.000000000"[: len(found[0])],
    ),
    (r"\b\d\d:\d\d:\d\d\.\d{3}(?= )", lambda _: "12:00:00.000"),
    (r"(?<=\.kept-)[\dT.]+Z", lambda found: "20260131T120000.000000Z"[-len(found[0]) :]),
    (r"\b\d\.\d MB", lambda _: "0.0 MB"),
    (r"\bin \d+\.\d+ s\b", lambda _: "in 0.0 s"),
)
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_CUT_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]*\b(?!-)")


def replaced(text: str) -> str:
    for pattern, other in _REPLACED:
        text = re.sub(pattern, other, text)
    ids = dict.fromkeys(_ID.findall(text))
    names = {each: each if each.startswith(id_of(0)[:23]) else id_of(900 + n) for n, each in enumerate(ids)}
    return _ID.sub(lambda found: names[found[0]], text)


def cut_ids(text: str) -> list[str]:
    """The ids of which only a part stands there."""
    return _CUT_ID.findall(_ID.sub("", text))


def shown_of(ended: Ended, status: int) -> str:
    assert ended.status == status, ended
    text = replaced(ended.out)
    return text + (f"[standard error]\n{replaced(ended.err)}" if ended.err else "")


# A folder with all there is to show


def make_folder(folder: Path) -> tuple[Path, str, str]:
    """A folder with PIMs, a subscription and one delivery of each kind; the subscription and an event."""

    async def fill() -> str:
        async with Embedded(folder) as store:
            await store.open()
            (subscription,) = await store.subscribe(filter=None)
            await store.queue.accept(PIM, [an_event(1), an_event(2), an_event(3)])
            failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
            tried = store.put[0].delivery()
            await store.queue.settle(Settlement(tried, failed, retry_at=START + timedelta(days=36500)))
            await store.queue.dead_letter(store.put[1], "KeyError: 'a bug of ours'")
            return subscription.id

    subscription = asyncio.run(fill())
    for words in (("add", PIM), ("add", OLD_PIM, "--auth", "platform-key"), ("client", OLD_PIM, "erp")):
        assert run("pims", *words, "--data", str(folder), settings={"AEP_SECRETS_KEY": KEY}).status == 0
    return folder, subscription, "event-1"


class Here:
    """The commands at a width, on a copy of the folder that is named alike at each width."""

    def __init__(self, made: tuple[Path, str, str], folder: Path, width: int) -> None:
        made_in, self.subscription, self.event = made
        self.folder, self.data, self._width = folder, folder / "data", width
        shutil.copytree(made_in, self.data)

    def run(self, *words: str, typed: str = "", **settings: str) -> Ended:
        known = {
            "AEP_DATA": str(self.data),
            "AEP_SECRETS_KEY": KEY,
            "AEP_PIM_URL": PIM,
            "AEP_CLIENT_ID": "erp",
            "AEP_PIM_TOKEN": "token",
            "AEP_INGEST_KEY": "an-ingest-key-of-tests",
            "COLUMNS": str(self._width),
        }
        with mock.patch("sys.stdin", io.StringIO(typed)):
            return run(*words, settings=known | settings)


def answer_of_the_api(_: object, method: str, path: Sequence[str], body: Any = None) -> Any:
    match path:
        case ["subscribers"]:
            return [SUBSCRIBER] if method == "GET" else SUBSCRIBER
        case ["subscribers", _]:
            return SUBSCRIBER
        case ["subscribers", _, "subscriptions"]:
            return [RECORD] if method == "GET" else RECORD
        case [*_, "test"]:
            body_sent = orjson.dumps(
                {"specversion": "1.0", "type": UPDATED, "data": {"product": {}}}
            ).decode()
            headers = {"Content-Type": "application/json", signatures.PRIMARY_HEADER: "5d2c" * 16}
            return {
                "outcome": "retryable",
                "status": 503,
                "reason": "destination_failure",
                "detail": None,
                "milliseconds": 12,
                "request": {"url": RECORD["config"]["url"], "headers": headers, "body": body_sent},
                "response": {"body": "<h1>Service Unavailable</h1>\n"},
            }
        case [*_, "explain"]:
            checks = [
                ("status", True, "the subscription is active"),
                ("events", True, f"{UPDATED} is one of its event types"),
                ("filter", False, 'not user = "erp_4711" is false, as the user of the event is erp_4711'),
            ]
            return {
                "matches": False,
                "checks": [
                    {"part": part, "passes": passes, "message": message} for part, passes, message in checks
                ],
            }
        case _:
            return RECORD
