"""Checks of the registry of PIMs, and of what they have sent."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.domain.feeds import ResourceName, ResourceState, problem_of
from event_platform.domain.tenants import PIMS_NAMED, Tenant, in_force
from event_platform.domain.words import counted
from event_platform.settings import Settings

from ..errors import BadPims
from ..runtime.meters import LastCalls
from ..store import calls, feeds
from ..store import tenants as registry
from .findings import Check, broken, missing, ok, problem
from .stored import read

LOOK_BACK = timedelta(days=7)
SENDERS_SHOWN = 5
ADVICE: Mapping[str, str] = {
    "wrong_signature": "give the secret that it signs with to `aep pims add URL --events-api-secret -`, or"
    " the relay secret to the subscription there",
    "no_secret": "give its secret to `aep pims add URL --events-api-secret -`",
    "unknown_key": "compare the URL that it was given with `aep pims list --json`",
    "unsigned_test": "nothing: a PIM 5.0.0 or 5.0.1 signs its events, but not its Test",
    "wrong_key": "compare its ingest key, or make another by `aep pims add URL --rotate`",
    "clock": "set its clock and this one (NTP)",
}
"""The cure for each reason of a refused call."""


def checks(folder: Path, settings: Settings, now: datetime) -> Iterator[Check]:
    """Runs the checks of the registry and of the calls of its PIMs."""
    yield pims(folder, settings)
    yield senders(folder, settings, now)
    yield from of_feeds(folder)


def known(folder: Path, settings: Settings) -> Sequence[Tenant]:
    """Returns the entries that would be in force, as far as they can be understood."""
    listed: list[Tenant] = []
    with suppress(BadPims):  # which is a finding of its own
        listed = _listed(settings, allow_http=True)
    return in_force(listed, read(folder, _readable_tenants) or ())


def pims(folder: Path, settings: Settings) -> Check:
    try:
        listed = len(_listed(settings, allow_http=settings.dev))
    except BadPims as error:
        return broken("pims", str(error))
    stored = set(read(folder, _names_of_tenants) or ())
    readable = {tenant.name for tenant in read(folder, _readable_tenants) or ()}
    if unreadable := sorted(stored - readable):
        return problem(
            "pims",
            f"the platform ignores {', '.join(unreadable[:PIMS_NAMED])}, whose entry cannot be understood:"
            " `aep pims remove URL`, then add it again",
        )
    if listed + len(stored) == 0:
        return missing("pims", "none: register one with `aep pims add URL`, or set AEP_PIMS")
    return ok("pims", f"{len(stored)} in the data folder, {listed} in AEP_PIMS")


def senders(folder: Path, settings: Settings, now: datetime) -> Check:
    """Checks that the last call of each PIM was taken. A PIM sends nothing twice, and reports no refusal."""
    seen = read(folder, calls.read) or {}
    registered = set(read(folder, _names_of_tenants) or ())
    with suppress(BadPims):  # which is a finding of its own
        registered |= {tenant.name for tenant in _listed(settings, allow_http=True)}
    of_pims = {key: last for key, last in seen.items() if key[0] in registered}
    recently = now.timestamp() - LOOK_BACK.total_seconds()
    refused = [
        f"{tenant} by {way}: {_refusal(last)}"
        for (tenant, way), last in of_pims.items()
        if last.is_refused_now and (last.refused_at or 0) > recently
    ]
    if refused:
        more = f"; and {len(refused) - SENDERS_SHOWN} more" if len(refused) > SENDERS_SHOWN else ""
        return problem("senders", "; ".join(refused[:SENDERS_SHOWN]) + more)
    nobodys = [_refusal(last) for (tenant, _), last in seen.items() if not tenant and last.is_refused_now]
    stray = f"; a call that was no PIM's: {nobodys[0]}" if nobodys else ""
    taken = max((last.taken_at for last in of_pims.values() if last.taken_at is not None), default=None)
    if taken is None:
        return ok("senders", f"no events came yet{stray}")
    return ok("senders", f"the last events came at {_shown(taken)}; `aep pims list` has all{stray}")


def of_feeds(folder: Path) -> Iterator[Check]:
    """Checks that feeds read what they ask for; nothing where there is no feed."""
    running = read(folder, feeds.running)
    if running:
        yield check_of(running, ())


def check_of(
    running: Mapping[str, Mapping[ResourceName, ResourceState]], others: Iterable[str], option: str = ""
) -> Check:
    """Returns the check of feeds that are not off. `others` are problems beside those of their resources.

    `option` tells the command where they are.
    """
    bad = [
        *others,
        *(
            f"{name}, {resource}: {words}"
            for name, states in running.items()
            for resource, state in states.items()
            if (words := problem_of(state))
        ),
    ]
    if bad:
        more = f"; and {len(bad) - SENDERS_SHOWN} more" if len(bad) > SENDERS_SHOWN else ""
        shown = f"{'; '.join(bad[:SENDERS_SHOWN])}{more}"
        return problem("feeds", f"{shown}; `aep pims feed URL{option}` shows all")
    ended = [
        each.succeeded_at for states in running.values() for each in states.values() if each.succeeded_at
    ]
    shown = f"read last at {max(ended):%Y-%m-%dT%H:%M:%SZ}" if ended else "nothing was read yet"
    return ok("feeds", f"{counted(len(running), 'PIM')}; {shown}")


def _refusal(last: LastCalls) -> str:
    advice = ADVICE.get(last.reason or "", "see ingest.refused in the log")
    return f"refused at {_shown(last.refused_at or 0)} with {last.status} ({last.reason}): {advice}"


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _listed(settings: Settings, *, allow_http: bool) -> list[Tenant]:
    text = registry.source_text(settings.pims)
    return registry.parse(text, settings.pims, allow_http=allow_http) if text is not None else []


def _names_of_tenants(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM tenants")]


def _readable_tenants(connection: sqlite3.Connection) -> list[Tenant]:
    """Returns the entries that can be understood, their secrets still sealed."""
    found: list[Tenant] = []
    for entry in registry.stored_entries(connection):
        with suppress(UnreadableEntry):
            found.append(stored_tenant(entry.document, KeylessSeal()))
    return found
