"""Checks of the data folder, its disk and its key."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from event_platform.settings import Settings

from ..control.client import control
from ..errors import ControlFailed, WrongKey
from ..store import keys, opening
from ..store.room import megabytes
from .findings import Check, broken, ok, problem

LEAST_FREE_BYTES = 64 * 1024 * 1024
FEW_FREE_BYTES = 1024 * 1024 * 1024


def checks(folder: Path, settings: Settings) -> Iterator[Check]:
    """Runs the checks of the folder that the platform works in."""
    yield data_folder(folder)
    yield server(folder)
    free = shutil.disk_usage(_existing(folder)).free
    yield disk(free)
    path = folder / opening.FILE
    yield kept(settings, free + (path.stat().st_size if path.exists() else 0))
    yield key(folder, settings)


def server(folder: Path) -> Check:
    """Says whether a platform runs on the folder and takes commands."""
    try:
        with control(folder) as platform:
            if platform is None:
                return ok("platform", "none runs on the folder, or it takes no commands")
    except ControlFailed as error:
        return problem("platform", str(error))
    return ok("platform", "one runs on the folder and takes commands")


def data_folder(folder: Path) -> Check:
    nearest = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return broken("data folder", f"{nearest} is not writable ({error.strerror}): run as its owner")
    if nearest != folder:
        return ok("data folder", f"{folder} does not exist; the first start makes it")
    file = folder / opening.FILE
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        return broken("data folder", f"{file} is not writable: give it to the user that runs the platform")
    if folder.stat().st_mode & 0o077:
        return problem("data folder", f"{folder} is open to others: chmod 0700 {folder}")
    return ok("data folder", f"{folder} is writable")


def disk(free: int) -> Check:
    shown = f"{free / 1e9:.1f} GB free" if free >= 1e9 else f"{free / 1e6:.0f} MB free"
    if free < LEAST_FREE_BYTES:
        return broken("disk", f"{shown}: make room, or events will be refused with 503")
    if free < FEW_FREE_BYTES:
        return problem("disk", f"{shown}: make room, a waiting queue needs 2 KB for each delivery")
    return ok("disk", shown)


def kept(settings: Settings, free: int) -> Check:
    """Says how much of the disk kept events may take. `free` is what they have, with what the store has."""
    if settings.keep == 0:
        return ok("kept events", "none: AEP_KEEP is 0")
    bound = f"for {settings.keep / 3600:g} h, at most {megabytes(settings.keep_bytes)} (AEP_KEEP_BYTES)"
    if free < settings.keep_bytes:
        return problem(
            "kept events",
            f"{bound}, and {megabytes(free)} are there for the store: make room, or lower AEP_KEEP_BYTES",
        )
    return ok("kept events", bound)


def key(folder: Path, settings: Settings) -> Check:
    path = folder / keys.KEY_FILE
    if settings.secrets_key is None and not path.exists() and not (folder / opening.FILE).exists():
        return ok("key", f"{path} is made by the first start")
    try:
        seal = keys.load(folder, settings.secrets_key)
        keys.check_folder(folder, seal)
    except (WrongKey, OSError) as error:
        return broken("key", str(error))
    if settings.secrets_key is not None:
        return ok("key", "from AEP_SECRETS_KEY")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return problem("key", f"{path} has mode {mode:04o}, so others may read it: chmod 0600 {path}")
    return ok("key", f"{path}, mode {mode:04o}")


def _existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(each for each in (folder, absolute, *absolute.parents) if each.is_dir())
