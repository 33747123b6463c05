"""Bodies of calls of the management API, from the options of commands. A secret is never an argument."""

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from event_platform.domain.events import catalog
from event_platform.domain.validation_words import json_words

from ..output import fail
from .event_files import text_of

Body = Annotated[
    Path | None,
    typer.Option(
        "--body",
        metavar="FILE",
        help="The body as the API takes it, JSON; - for standard input. Options go before it.",
    ),
]


def body_in(file: Path | None) -> dict[str, Any]:
    """Returns the JSON object in a file, empty without one; ends the command when it holds none."""
    if file is None:
        return {}
    where = f"--body {file}"
    try:
        found = orjson.loads(text_of(file, where))
    except orjson.JSONDecodeError as error:
        fail(f"{where} must hold a JSON object, and is {json_words(error)}")
    if not isinstance(found, dict):
        fail(f"{where} must hold a JSON object, as the API takes it")
    return found


def secret_from_input(option: str, value: str | None) -> str | None:
    """Reads a secret from standard input where the option is given, which takes nothing but `-`."""
    if value is None:
        return None
    if value != "-":
        fail(f"{option} takes - and reads the secret from standard input")
    secret = sys.stdin.readline().strip()
    if not secret:
        fail(f"{option} -: there is no secret on standard input")
    return secret


def new_secret() -> str:
    """Makes a secret."""
    return secrets.token_urlsafe(32)


def event_types(text: str) -> list[str]:
    """Returns the types of a list with commas. Akeneo's may be without their prefix: `product.updated`."""
    return [catalog.load().in_full(each.strip()) for each in text.split(",") if each.strip()]
