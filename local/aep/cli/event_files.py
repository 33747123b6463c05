"""Files that a person names: the option `--event`, in each form that an event may have."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from event_platform.domain.validation_words import json_words

from ..output import fail
from ..store.files import with_cure

EventFile = Annotated[
    Path,
    typer.Option(
        "--event",
        metavar="FILE",
        help="A CloudEvent, a delivered body, or what `aep events TYPE` prints; - for standard input.",
    ),
]


def event_in(file: Path) -> dict[str, Any]:
    """Returns the event, which has a `type` and an object `data`; ends the command when there is none.

    For an entry of the catalog, as JSON or as `aep events TYPE` prints it, that is its example.
    """
    where = f"--event {file}"
    before, is_printed, example = text_of(file, where).partition("\n\nexample:\n")
    try:
        found = orjson.loads(example if is_printed else before)
    except orjson.JSONDecodeError as error:
        fail(f"{where} must hold one event in JSON, and is {json_words(error)}")
    if is_printed:
        found = {"type": before.partition("\n")[0], "example": found}
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        fail(f"{where} must hold one event, an object with type and data")
    if "data" not in found and "example" in found:
        found = {"type": found["type"], "data": found["example"]}
    if not isinstance(found.get("data"), dict):
        fail(f"{where} must hold one event: its data must be an object")
    return found


def text_of(file: Path, where: str) -> str:
    """Returns the text of a file, or of standard input for `-`; ends the command when there is none."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except UnicodeDecodeError as error:
        fail(f"{where} must hold UTF-8, and does not from byte {error.start} on: save it in that encoding")
    except OSError as error:
        fail(f"{where}: {with_cure(error, is_named=True)}")
