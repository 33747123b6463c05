"""Checks that all accepted events arrived. Figures of a run in which one did not would mean nothing."""

from collections.abc import Iterable, Mapping, Sequence

from .errors import BenchFailed

LISTED = 20
"""The complaints that are said."""


def check(
    expected: set[str],
    arrivals: Mapping[str, Mapping[str, int]],
    counts: Mapping[str, int],
    paths: Iterable[str],
) -> None:
    """Raises BenchFailed unless each path got each expected event, all signed, and nothing else came.

    Duplicates are allowed, as the promise is at least once; the cases report their number.
    """
    complaints: list[str] = []
    for path in paths:
        got = arrivals.get(path, {}).keys()
        if lost := expected - got:
            complaints.append(f"{len(lost)} of {len(expected)} accepted events lost at {path}")
        if strangers := got - expected:
            complaints.append(f"{len(strangers)} deliveries at {path} that nobody published")
    if bad := counts["bad_signatures"]:
        complaints.append(f"{bad} wrong signatures")
    if unknown := counts["without_id"]:
        complaints.append(f"{unknown} deliveries without an event id")
    if complaints:
        more = [f"and {len(complaints) - LISTED} more"] if len(complaints) > LISTED else []
        raise BenchFailed("; ".join([*complaints[:LISTED], *more]))


def check_accepted(rows: Sequence[Sequence[int]], statuses: Sequence[int]) -> None:
    """Raises BenchFailed unless every request of the load was answered as wanted."""
    if refused := [row[3] for row in rows if row[3] not in statuses]:
        raise BenchFailed(f"{len(refused)} of {len(rows)} requests not accepted, the first with {refused[0]}")
