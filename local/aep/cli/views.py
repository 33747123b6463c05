"""Turns records into the items that the lists of commands show. Pure: records in, items out.

Whoever reads the same from another store, such as the Firestore of a project, shows it by these too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from event_platform.domain.events import catalog
from event_platform.domain.record.logs import LogEntry
from event_platform.domain.subscriptions import PubSubConfig
from event_platform.domain.tenants import Tenant, Way
from event_platform.domain.words import counted

from ..broker.dead_letters import DeadLetter
from ..google.dead_letters import Letter
from ..layout import Column, Fact, Item
from ..runtime.meters import LastCalls
from ..store.overview import State

SUBSCRIPTIONS = (
    Column("subscription"),
    Column("subscriber"),
    Column("state"),
    Column("delivered 1h", is_number=True),
    Column("failed 1h", is_number=True),
    Column("waiting", is_number=True),
    Column("since"),
)
NO_SUBSCRIPTIONS = "There are no subscriptions yet: an app creates them, or `aep subscriptions create`."
LOG = (
    Column("time"),
    Column("operation"),
    Column("×", is_number=True),
    Column("about"),
)
DEAD_LETTERS = (
    Column("id", is_number=True),
    Column("since"),
    Column("subscription"),
    Column("attempts", is_number=True),
)
MESSAGES = (Column("id"), Column("since"), Column("from"))
NO_DEAD_LETTERS = "There are no dead letters: our own code has failed on nothing."

PIMS = (Column("PIM"), Column("key"), Column("auth"))
CLIENTS = (
    Column("client"),
    Column("user in the PIM"),
    Column("platform keys", is_number=True),
    Column("earlier keys good until"),
)

EVENT_TYPES = (Column("type"), Column("certainty"), Column("trigger"))
SUBSCRIBERS = (Column("subscriber"), Column("name"), Column("state"))
RECORDS = (Column("subscription"), Column("state"), Column("destination"))

TYPES_SHOWN = 8


def subscription_item(state: State) -> Item:
    """A row of `aep status`."""
    waiting = (state.queued or 0) + state.retries
    number = f"{waiting:,}" if state.queued is not None else f"{waiting:,} and lanes"
    since = "" if state.waiting_since is None else moment(state.waiting_since)
    nothing = "nothing" if state.queued is not None else "no retry; what is in lanes is not known"
    return Item(
        cells=(
            state.id,
            state.subscriber_name,
            state.status,
            f"{state.delivered:,}",
            f"{state.failed:,}",
            number,
            since,
        ),
        heading=f"{state.id}  {state.subscriber_name}  {state.status}",
        lines=(
            Fact("last hour", f"{state.delivered:,} delivered, {state.failed:,} failed"),
            Fact("waiting", f"{number} since {since}" if waiting else nothing),
        ),
        more=(
            Fact("retries", f"{state.retries:,}" if state.retries else ""),
            Fact("PIM", state.tenant),
            Fact("client", state.client_id),
            Fact("destination", state.destination),
            Fact("events", event_types(state.events)),
            Fact("rate", f"{state.rate:g}/s in {counted(state.lanes, 'lane')}"),
            Fact("undelivered", f"{state.ended:,} in 30 days" if state.ended else ""),
            Fact("last failure", last_error(state)),
        ),
    )


def log_item(entry: LogEntry) -> Item:
    """A row of `aep logs`."""
    subject = entry.subscription_id or entry.subscriber_id or ""
    message = " ".join(": ".join(filter(None, (entry.error_reason, entry.error_message))).split())
    at = moment(entry.at)
    return Item(
        cells=(at, entry.operation, f"{entry.occurrences:,}", subject),
        heading=f"{at}  {entry.operation}",
        lines=(
            Fact("about", subject),
            Fact("counted", f"{entry.occurrences:,} times" if entry.occurrences > 1 else ""),
        ),
        more=(Fact("message", message),),
    )


def dead_letter_item(letter: DeadLetter) -> Item:
    """A row of `aep dead list`."""
    return Item(
        cells=(
            str(letter.id),
            moment_of(letter.at),
            letter.subscription_id or "all of the PIM",
            f"{letter.attempts:,}",
        ),
        more=(Fact("event", letter.event_id), Fact("type", letter.event_type), Fact("error", letter.error)),
    )


def message_item(letter: Letter) -> Item:
    """A row of `aep dead list` of a project."""
    return Item(
        cells=(letter.id, moment(letter.at), letter.origin),
        more=(
            Fact("subscription", letter.subscription_id),
            Fact("event", letter.event_id),
            Fact("error", letter.reason),
        ),
    )


def pim_item(
    tenant: Tenant, ingest_path: str, calls: Iterable[tuple[Way, LastCalls]], feed: str = ""
) -> Item:
    """A row of `aep pims list`. `calls` are the last ones by each ingest format; `feed` says how that is."""
    own = list(calls)
    taken = [f"{moment_of(last.taken_at)} {way}" for way, last in own if last.taken_at is not None]
    refused = [
        f"{moment_of(last.refused_at)} {way} {last.status} {last.reason}"
        for way, last in own
        if last.refused_at is not None
    ]
    return Item(
        cells=(tenant.name, tenant.key, tenant.auth),
        more=(
            Fact("ingest path", ingest_path),
            Fact("last event taken", ", ".join(taken)),
            Fact("last call refused", ", ".join(refused)),
            Fact("feed", feed),
        ),
    )


def client_item(client: Mapping[str, Any]) -> Item:
    """A row of `aep pims clients`, from the client as `--json` shows it."""
    return row(
        client["client_id"],
        client["username"] or "",
        client["platform_keys"],
        ", ".join(client["previous_keys_until"]),
    )


def subscriber_item(record: Mapping[str, Any]) -> Item:
    """A row of `aep subscribers list`, from the record as the API has it."""
    return Item(
        cells=(record["id"], record["name"], record["status"]),
        heading=f"{record['id']}  {record['name']}  {record['status']}",
        lines=(),
        more=(*_contact(record), *_owner(record)),
    )


def subscriber_in_full(record: Mapping[str, Any]) -> Item:
    """All of a subscriber, from the record as the API has it."""
    item = subscriber_item(record)
    channels = ", ".join(record["contact"]["notification_channels"])
    return replace(item, more=(*item.more, Fact("notified by", channels), *_times(record)))


def record_item(record: Mapping[str, Any]) -> Item:
    """A row of `aep subscriptions list`, from the record as the API has it."""
    return Item(
        cells=(record["id"], record["status"], destination(record)),
        heading=f"{record['id']}  {record['status']}",
        lines=(Fact("destination", destination(record)),),
        more=(
            Fact("events", event_types(record["events"])),
            Fact("filter", record.get("filter", "")),
            Fact("subscriber", record["subscriber_id"]),
            *_owner(record),
        ),
    )


def record_in_full(record: Mapping[str, Any]) -> Item:
    """All of a subscription but its secrets, from the record as the API has it."""
    failure = record.get("last_failure")
    config = record["config"]
    two = " and another" if "secondary" in config.get("secret", {}) else ""
    return Item(
        cells=(record["id"],),
        heading=f"{record['id']}  {record['status']}",
        lines=(),
        more=(
            Fact("destination", destination(record)),
            Fact("broker", config.get("broker", "")),
            Fact("type", record["type"]),
            Fact("source", record["source"]),
            Fact("events", ", ".join(name.removeprefix(catalog.AKENEO) for name in record["events"])),
            Fact("filter", record.get("filter", "")),
            Fact("signed with", f"a secret{two}" if "secret" in config else ""),
            Fact("headers", ", ".join(config.get("headers", {}))),
            Fact("catches up", "yes" if record.get("catch_up") else "no"),
            Fact("identifiers", "added to products" if record["send_product_identifier"] else ""),
            Fact("subscriber", record["subscriber_id"]),
            *_owner(record),
            *_times(record),
            Fact("last failure", "" if failure is None else _failure(failure)),
        ),
    )


def destination(record: Mapping[str, Any]) -> str:
    """Returns the destination in the words of notifications, from the record as the API has it."""
    config = record["config"]
    if "project_id" in config:
        return PubSubConfig(config["project_id"], config["topic_id"]).destination
    return config["topic"] if "topic" in config else config["url"]


def _contact(record: Mapping[str, Any]) -> Sequence[Fact]:
    contact = record["contact"]
    return (
        Fact("e-mail", contact["technical_email"]),
        Fact("webhook", contact.get("notification_webhook_url", "")),
    )


def _owner(record: Mapping[str, Any]) -> Sequence[Fact]:
    """Returns whose it is, which only the operator's records say."""
    if "pim_url" not in record:
        return ()
    return (Fact("PIM", record["pim_url"]), Fact("client", record["client_id"]))


def _times(record: Mapping[str, Any]) -> Sequence[Fact]:
    return (Fact("created", record["created_at"]), Fact("changed", record["updated_at"]))


def _failure(failure: Mapping[str, Any]) -> str:
    return " ".join(str(each) for each in (failure["at"], failure["status"], failure["reason"]) if each)


def row(*cells: object) -> Item:
    """A row that has nothing beside its cells."""
    return Item([str(cell) for cell in cells])


def last_error(state: State) -> str:
    """Returns the newer of the last event that was given up and the last attempt that failed."""
    error, failure = state.last_error_at, state.last_failure_at
    if failure is not None and (error is None or failure > error):
        return f"{moment(failure)} {state.last_failure}"
    return f"{moment(error)} {state.last_error}" if error is not None else ""


def event_types(names: Sequence[str]) -> str:
    """Returns the first types, Akeneo's without their prefix, and how many more there are."""
    shown = ", ".join(name.removeprefix(catalog.AKENEO) for name in names[:TYPES_SHOWN])
    more = len(names) - TYPES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def moment(at: datetime) -> str:
    """Returns the time to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(seconds: float) -> str:
    """Returns the same of unix seconds."""
    return moment(datetime.fromtimestamp(seconds, UTC))
