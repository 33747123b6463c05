"""The options that several commands share, and the catalog's types by name."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from event_platform.domain.events import catalog
from event_platform.settings import Settings, catalog_with, wrong_setting
from event_platform.settings import unknown_variables as unknown_to_settings

from ..output import fail


def data_folder(path: Path) -> Path:
    """Returns the data folder that was named; ends the command if that path, or one above it, is a file."""
    if (
        file := next((each for each in (path, *path.parents) if each.exists() and not each.is_dir()), None)
    ) is not None:
        fail(f"--data {path} is no folder: {file} is a file. Name a folder, or a path to make one at")
    return path


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="AEP_DATA",
        metavar="DIR",
        callback=data_folder,
        help="The platform's data folder.",
    ),
]
EventTypes = Annotated[
    str | None,
    typer.Option(
        "--event-types",
        envvar="AEP_EVENT_TYPES",
        metavar="FILE",
        help="A JSON list of event types beside the catalog's.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DATA = Path("aep-data")


def is_default(context: typer.Context, name: str) -> bool:
    """True if neither an option nor a variable gave the parameter its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT"


LIKE = 0.6
"""The likeness from which on another name may be meant, of 0 to 1."""
LONGEST_SPAN = timedelta(days=999_999)
_SPAN = re.compile(r"([0-9]{1,6})([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
READ_BY_COMMANDS = (
    "AEP_CLIENT_ID",
    "AEP_CONSOLE_HOST",
    "AEP_CONSOLE_PORT",
    "AEP_DATA",
    "AEP_INBOX_SECRET",
    "AEP_INGEST_KEY",
    "AEP_INGEST_URL",
    "AEP_METRICS_PORT",
    "AEP_PIM_CLIENT_ID",
    "AEP_PIM_TOKEN",
    "AEP_PIM_URL",
    "AEP_SIGNING_SECRET",
    "AEP_URL",
    "AEP_WORKERS",
)
"""The variables that commands read beside the settings."""


def unknown_variables(environment: Mapping[str, str]) -> Mapping[str, str | None]:
    """Returns the `AEP_` variables that no command reads, each with the known name that is most like it."""
    return unknown_to_settings(environment, *READ_BY_COMMANDS)


def settings(**given: Any) -> Settings:
    """Reads the settings from the environment; `given` ones win. Ends the command when one is wrong."""
    try:
        return Settings(**given)
    except ValidationError as error:
        fail(wrong_setting(error))


def span(option: str, text: str, longest: timedelta = LONGEST_SPAN) -> timedelta:
    """Returns a span of time such as 90s, 2h or 1d; ends the command when the text is none."""
    matched = _SPAN.fullmatch(text)
    if matched is None:
        fail(f"{option} must be a number with s, m, h or d, as in 90s, 2h or 1d")
    found = timedelta(seconds=int(matched[1]) * _SECONDS[matched[2]])
    if found > longest:
        fail(f"{option} must be at most {longest.days}d")
    return found


def event_types(source: str | None) -> catalog.Catalog:
    """Returns the catalog with the types of `source`, a path or a list; ends the command when one is
    wrong.
    """
    try:
        return catalog_with(source) if source is not None else catalog.load()
    except ValueError as error:
        is_variable = os.environ.get("AEP_EVENT_TYPES") == source
        path = "" if source is None or source.lstrip().startswith("[") else f" {source}"
        fail(f"{'AEP_EVENT_TYPES' if is_variable else '--event-types'}{path}: {error}")


def known_type(name: str, types: catalog.Catalog) -> catalog.EventType:
    """Returns the catalog's entry; ends the command when there is none."""
    if name not in types:
        nearest = types.nearest(name)
        likeness = SequenceMatcher(
            None, name.removeprefix(catalog.AKENEO), nearest.removeprefix(catalog.AKENEO)
        )
        meant = f"did you mean {nearest}? " if likeness.ratio() >= LIKE else ""
        fail(f"unknown event type {name}: {meant}`aep events` lists them")
    return types[name]


Google = Annotated[
    str | None,
    typer.Option("--google", metavar="PROJECT", help="Of a Google Cloud project instead of a data folder."),
]
VersionBuckets = Annotated[
    int,
    typer.Option(
        envvar="AEP_VERSION_BUCKETS", min=1, max=64, help="With --google: as the functions have it."
    ),
]
