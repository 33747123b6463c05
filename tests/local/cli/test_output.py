"""What commands print of what others chose: no control characters, no markup, whatever the command."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import aep
from aep import output
from aep.cli import sandbox
from aep.layout import Column, Fact, Item
from aep.sandbox.inbox import Behaviour, Inbox, Settings
from event_platform import telemetry
from event_platform.telemetry import printable_json
from support.clock import START

HOSTILE = "\x1b[2J\x07\r\x9b1m\u202e[red]\ud800\x7f"
ESCAPED = r"\x1b[2J\x07\r\x9b1m\u202e[red]\ud800\x7f"
PRINTS = {"Console", "Text"}
PRINTING_METHODS = {("typer", "echo"), ("typer", "secho"), ("Text", "assemble"), ("Text", "from_markup")}


def test_text_is_escaped_and_its_lines_stay(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo(f"one {HOSTILE}\ntwo é 日本 ✓")
    assert capsys.readouterr().out == f"one {ESCAPED}\ntwo é 日本 ✓\n"


def test_lists_hold_text_and_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [Fact("also", f"2 {HOSTILE}")]
    items = [Item([f"0 {HOSTILE}"], more, f"1 {HOSTILE}", more), Item(["[/nothing]"], more)]
    for width in (None, "40", "20"):
        if width is not None:
            monkeypatch.setenv("COLUMNS", width)
        output.show((Column("name"),), items, empty="")
        shown = capsys.readouterr().out
        assert ESCAPED in shown
        assert "[/nothing]" in shown
        assert shown.replace("\n", "").isprintable()


def test_a_failure_is_one_escaped_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        output.fail(f"no such thing: {HOSTILE}\nmore")
    in_one_line = ESCAPED.replace(r"\r", " ")
    assert capsys.readouterr().err == f"aep: no such thing: {in_one_line} more\n"


@pytest.mark.parametrize("indent", [False, True])
def test_json_is_escaped_and_means_the_same(capsys: pytest.CaptureFixture[str], indent: bool) -> None:
    value = {"name": HOSTILE.replace("\ud800", "\U000e0001"), "kept": "é 日本"}
    output.echo_json(value, indent=indent)
    shown = capsys.readouterr().out
    assert json.loads(shown) == value
    assert "é 日本" in shown
    assert shown.replace("\n", "").isprintable()


def test_log_lines_are_escaped_and_plain_ones_are_left_alone() -> None:
    plain = b'{"event":"delivery.attempted"}'
    assert printable_json(plain) is plain
    assert printable_json('{"id":"\x9b\u202e\x7f é"}'.encode()) == '{"id":"\\u009b\\u202e\\u007f é"}'.encode()


def test_a_line_of_the_inbox_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    inbox = Inbox(Settings(), sandbox._printer())
    event = json.dumps({"id": "event-1", "type": "[bold]\x1b]0;title\x07"}).encode()
    inbox.take(f"/{HOSTILE}", Behaviour.OK, {}, event)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert shown.rstrip("\n").isprintable()
    assert f"/{ESCAPED}" in shown
    assert r"[bold]\x1b]0;title\x07" in shown


def test_no_other_module_prints() -> None:
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(aep.__file__).parent.rglob("*.py")
        if path.name != "output.py"
        for nodes in [list(ast.walk(ast.parse(path.read_text())))]
        for of_rich in [_of_rich(nodes)]
        for node in nodes
        if isinstance(node, ast.Call) and _prints(node.func, of_rich)
    ]
    assert found == [], "print by what aep/output.py has"


def _of_rich(nodes: Sequence[ast.AST]) -> set[str]:
    """The names that a module has from the library which prints."""
    imports = (node for node in nodes if isinstance(node, ast.ImportFrom))
    return {name.name for node in imports if (node.module or "").startswith("rich") for name in node.names}


def _prints(called: ast.expr, of_rich: set[str]) -> bool:
    if isinstance(called, ast.Name):
        return called.id == "print" or called.id in of_rich & PRINTS
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and (called.value.id, called.attr) in PRINTING_METHODS
    )


def test_half_of_a_surrogate_pair_is_no_text_and_shown_as_a_replacement() -> None:
    value = {"id": "a\ud800", "parts": ("\udc00b", ["c", {"\ud800": 1}]), "at": START}
    shown = '{"id":"a\ufffd","parts":["\ufffdb",["c",{"\ufffd":1}]],"at":"2026-01-31T12:00:00+00:00"}'
    assert telemetry.to_json(value).decode() == shown
