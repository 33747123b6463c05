"""The time for which the id of an event is remembered, so that a repetition of it fans out once."""

REMEMBERED_SECONDS = 600.0
"""The seconds for an event of any ingest format (contract/ingest.md 2)."""
RELAYED_SECONDS = 86400.0
"""The seconds for a relayed event: its signature has no time and never expires (contract/ingest.md 4)."""


def is_repetition(came_at: float, now: float, *, remembered: float = REMEMBERED_SECONDS) -> bool:
    """True if an id that came at `came_at` (unix seconds) makes an event that comes now a repetition.

    An id of another time, ahead of now by more than it is remembered, counts for nothing.
    """
    return abs(now - came_at) < remembered
