"""`aep filter test`: yes or no by exit status, why, and what it takes as an event."""

from pathlib import Path

import orjson
import pytest

from event_platform.domain.events import catalog
from support.aep_here import run

DELTA = "com.akeneo.pim.v1.product.updated.delta"
DATA = catalog.load()[DELTA].example
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "akeneo-event-platform", "type": DELTA, "data": DATA}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "event.json"
    path.write_bytes(orjson.dumps(ENVELOPE))
    return path


def test_an_event_that_matches_ends_with_status_0_and_says_why(file: Path) -> None:
    ended = run("filter", "test", 'user_type = "api" or user = "julia"', "--event", str(file))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == 'yes, it matches\n  true: user_type = "api" (the event\'s user_type: "api")\n'


def test_an_event_that_does_not_ends_with_status_1_and_says_why(file: Path) -> None:
    ended = run("filter", "test", 'user_type = "api" and ready_on_scopes = "print"', "--event", str(file))
    assert (ended.status, ended.err) == (1, "")
    assert ended.out.splitlines()[0] == "no, it does not match"
    assert ended.out.splitlines()[1:] == [
        '  false: ready_on_scopes = "print" (the event has no ready_on_scopes)'
    ]


@pytest.mark.parametrize(("expression", "status"), [('user_type = "api"', 0), ('not user_type = "api"', 1)])
def test_json_has_the_whole_explanation(file: Path, expression: str, status: int) -> None:
    ended = run("filter", "test", expression, "--event", str(file), "--json")
    found = orjson.loads(ended.out)
    assert (ended.status, found["matches"], found["whole"]["text"]) == (status, status == 0, expression)
    assert [part["text"] for part in found["decided_by"]] == ['user_type = "api"']


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_aep_events_prints_is_an_event_also_on_standard_input(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    printed = run("events", DELTA, *options).out
    path = tmp_path / "printed"
    path.write_text(printed)
    with path.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run("filter", "test", 'attribute = "weight"', "--event", "-").status == 0
    assert run("filter", "test", 'attribute = "description"', "--event", str(path)).status == 1


def test_a_wrong_filter_is_shown_with_a_caret(file: Path) -> None:
    ended = run("filter", "test", 'usr = "julia"', "--event", str(file))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "aep: EXPR: at character 1: unknown field 'usr'; did you mean 'user'?",
        'usr = "julia"',
        "^",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "must hold one event in JSON"),
        (b"\xff", "must hold UTF-8"),
        (b"[]", "must hold one event, an object with type and data"),
        (orjson.dumps({"data": DATA}), "must hold one event, an object with type and data"),
        (orjson.dumps({"type": DELTA}), "its data must be an object"),
        (
            orjson.dumps({"type": "product.updated", "data": DATA}),
            "unknown event type product.updated: did you",
        ),
        (orjson.dumps({"type": DELTA, "data": {"product": {}}}), "data"),
    ],
)
def test_what_is_no_event_is_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "event.json"
    path.write_bytes(content)
    ended = run("filter", "test", 'user = "x"', "--event", str(path))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert expected in ended.err
