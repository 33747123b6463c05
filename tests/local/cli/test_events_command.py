"""`aep events`: the catalog on the screen and for scripts. And the shell's completion of all commands."""

import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from event_platform.domain.events import catalog
from support.aep_here import run
from support.processes import environment
from support.records import ORDER, ORDER_TYPE, UPDATED

AEP = Path(sys.executable).with_name("aep")


def test_the_table_has_every_type_on_a_line_with_trigger_and_certainty() -> None:
    ended = run("events")
    assert ended.status == 0
    for name, event_type in catalog.load().types.items():
        (line,) = (line for line in ended.out.splitlines() if line.startswith(f"{name} "))
        assert event_type.trigger in line
        assert event_type.certainty in line


def test_json_lists_the_same() -> None:
    assert orjson.loads(run("events", "--json").out) == [
        {"type": name, "trigger": event_type.trigger, "certainty": event_type.certainty}
        for name, event_type in catalog.load().types.items()
    ]


def test_a_type_is_shown_with_schema_and_example() -> None:
    out = run("events", UPDATED).out
    before, _, rest = out.partition("\nschema of data:\n")
    schema, _, example = rest.partition("\n\nexample:\n")
    updated = catalog.load()[UPDATED]
    assert orjson.loads(schema) == updated.schema
    assert orjson.loads(example) == updated.example
    assert before.startswith(f"{UPDATED}\n{updated.trigger}\n")
    assert f"certainty: {updated.certainty}\n" in before
    assert "ordered by: product.uuid\n" in before


def test_json_of_a_type_is_all_that_is_known() -> None:
    shown = orjson.loads(run("events", UPDATED, "--json").out)
    assert set(shown) == {"type", "trigger", "certainty", "identity", "schema", "example"}
    assert catalog.load()[UPDATED].problems_of(shown["example"]) == []
    assert shown["identity"] == ["product.uuid"]


def test_the_page_of_all_events_is_what_the_command_prints() -> None:
    page = Path(__file__).parents[3] / "docs" / "events.md"
    assert run("events", "--markdown").out == page.read_text(), "run `make events-page`"


def test_own_types_stand_beside_the_catalogs(tmp_path: Path) -> None:
    file = tmp_path / "types.json"
    file.write_bytes(orjson.dumps([ORDER_TYPE]))
    names = [each["type"] for each in orjson.loads(run("events", "--json", "--event-types", str(file)).out)]
    assert names == [*catalog.load().types, ORDER]
    shown = run("events", ORDER, "--json", "--event-types", str(file)).out
    assert orjson.loads(shown) == {**ORDER_TYPE, "certainty": "defined by the operator"}
    assert f"<code>{ORDER}</code>" in run("events", "--markdown", "--event-types", str(file)).out


def test_what_a_type_is_shown_as_is_an_entry_for_own_types(tmp_path: Path) -> None:
    entry = orjson.loads(run("events", UPDATED, "--json").out) | {"type": "com.example.product.updated"}
    file = tmp_path / "types.json"
    file.write_bytes(orjson.dumps([entry]))
    shown = run("events", entry["type"], "--json", "--event-types", str(file)).out
    assert orjson.loads(shown) == entry


@pytest.mark.parametrize("arguments", [["events"], ["sim", "emit", UPDATED, "--key", "k"], ["serve"]])
def test_a_wrong_list_of_own_types_is_one_line_with_its_place(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "types.json"
    file.write_bytes(orjson.dumps([ORDER_TYPE | {"example": {}}]))
    ended = run(*arguments, "--event-types", str(file))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(
        f"aep: --event-types {file}: entry 1, {ORDER}: example does not fit the schema"
    )
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["events"], ["sim", "emit", "--key", "k"]])
def test_an_unknown_type_is_one_line_that_names_the_nearest(arguments: list[str]) -> None:
    ended = run(*arguments, f"{UPDATED[:-1]}\x1b[2J")
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("aep: unknown event type ")
    assert f"did you mean {UPDATED}?" in ended.err
    assert ended.err.count("\n") == 1
    assert "\x1b" not in ended.err


@pytest.mark.parametrize("arguments", [["events"], ["sim", "emit", "--key", "k", "--to", "none"]])
def test_akeneos_prefix_may_be_left_out(arguments: list[str]) -> None:
    assert "unknown event type" not in run(*arguments, "product.updated").err
    assert "unknown event type" in run(*arguments, "product.renamed").err


# Completion


def completion_script(shell: str) -> str:
    settings = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = subprocess.run(
        [AEP, "--show-completion", shell],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def completed(typed: str) -> list[str]:
    """What bash offers after these words, by the script that `aep` printed."""
    words = shlex.split(typed) + ([""] if typed.endswith(" ") else [])
    script = (
        f"{completion_script('bash')}\nCOMP_WORDS=({' '.join(map(shlex.quote, words))})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        '$(complete -p aep | sed "s/.*-F \\([^ ]*\\).*/\\1/") aep; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    settings = {"PATH": f"{AEP.parent}:/usr/bin:/bin"}
    ran = subprocess.run(
        ["bash", "-c", script], env=environment(settings), capture_output=True, text=True, check=True
    )
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        pytest.param("aep ba", {"backup"}, marks=pytest.mark.full),
        ("aep d", {"dead", "demo", "demo-google", "dev", "doctor"}),
        pytest.param("aep dead ", {"list", "replay", "drop"}, marks=pytest.mark.full),
        ("aep dead drop --a", {"--all"}),
    ],
)
def test_bash_completes_what_aep_has(typed: str, offered: set[str]) -> None:
    assert set(completed(typed)) == offered


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef aep"), ("fish", "complete --command aep")])
def test_other_shells_get_a_script_of_their_own(shell: str, sign: str) -> None:
    assert completion_script(shell).startswith(sign)
