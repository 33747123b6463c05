"""The last part of the output of the demo, in 80 columns."""

import io
from typing import Any

import orjson
from rich.console import Console

from aep.sandbox.demo_view import Progress
from event_platform.domain.attempts import signatures

SECRET = "a-signing-secret-of-32-characters"


def received(body: bytes, **changed: Any) -> dict[str, Any]:
    """Returns one delivery as the inbox tells of it."""
    headers = {"host": "127.0.0.1:8082", signatures.PRIMARY_HEADER.lower(): signatures.sign(body, SECRET)}
    taken = {"status": 200, "verified": True, "duplicate": False, "attempt": 1, "latency_ms": 3.5}
    about = {"path": "/ok", "type": "t", "id": "i", "headers": headers, "body": body.decode()}
    return taken | about | changed


def shown(progress: Progress) -> str:
    console = Console(file=io.StringIO(), record=True, width=80)
    for part in (progress.one_delivery(), progress.summary(), progress.next_steps()):
        console.print(part)
    text = console.export_text()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    return text


def test_one_delivery_is_shown_whole_without_the_secret() -> None:
    progress = Progress(Console(file=io.StringIO()))
    body = orjson.dumps({"id": "the-event", "data": {"product": {"uuid": "3f1a"}}})
    progress.note(received(body + b" " * 100))
    progress.note(received(body))
    progress.note(received(b"{}", status=500))
    text = shown(progress)
    assert "POST /ok HTTP/1.1\nhost:" in text
    assert signatures.sign(body, SECRET) in text
    assert '\n  "id": "the-event",\n  "data": {\n' in text
    assert SECRET not in text
    assert text.rstrip().splitlines()[-4] == "Next:"


def test_a_demo_without_a_delivery_shows_the_summary_alone() -> None:
    text = shown(Progress(Console(file=io.StringIO())))
    assert "POST" not in text
    assert "deliveries due" in text


def test_the_live_view_cuts_no_id() -> None:
    progress = Progress(Console(file=io.StringIO()))
    event_id = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"
    kind = "com.akeneo.pim.v1.reference-entity-record.updated"
    progress.note(received(b"{}", id=event_id, type=kind, path="/flaky", latency_ms=12_345.0))
    console = Console(file=io.StringIO(), record=True, width=80)
    console.print(progress._view())
    assert event_id in console.export_text()
