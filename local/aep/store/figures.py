"""The sizes of the store's files, what is left on their disk, and when the last backup was made."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .identity import wal_of
from .opening import FILE, LAST_BACKUP, PRIVATE
from .room import free_bytes

_LONGEST_TIME = 64
"""A size in bytes that no time in ISO 8601 reaches."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The sizes of the files and of the disk, in bytes, and the last backup.

    `backup_at` is None if no backup was made, or none that is known. `takes_in` is False while the store
    takes nothing in.
    """

    file_bytes: int
    wal_bytes: int
    free_bytes: int
    backup_at: datetime | None
    takes_in: bool


def figures_of(folder: Path, *, takes_in: bool = True) -> Figures:
    """Reads the figures of a data folder. No file of SQLite is opened, as closing it would end locks."""
    file = folder / FILE
    return Figures(_size(file), _size(wal_of(file)), free_bytes(folder), last_backup(folder), takes_in)


def note_backup(folder: Path, at: datetime) -> None:
    """Notes when a backup was made. Raises OSError."""
    partial = folder / f"{LAST_BACKUP}.partial"
    partial.touch(PRIVATE)
    partial.write_text(f"{at.astimezone(UTC).isoformat(timespec='seconds')}\n")
    partial.replace(folder / LAST_BACKUP)


def last_backup(folder: Path) -> datetime | None:
    """Returns the time of the last backup, as `note_backup` has noted it; None if there was none."""
    try:
        with (folder / LAST_BACKUP).open() as file:
            at = datetime.fromisoformat(file.read(_LONGEST_TIME).strip())
    except (OSError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
