"""Checks of this machine for `aep serve` and its tools, each with a cure when it fails."""

import asyncio
import ipaddress
import os
import platform
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pycares
from pydantic import ValidationError

from event_platform.adapters import descriptors
from event_platform.adapters.guard import TrustedNetwork
from event_platform.adapters.pubsub.topics import rules_on_one_machine
from event_platform.adapters.seal import KeylessSeal
from event_platform.adapters.smtp import SmtpMailer
from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.feeds import problem_of
from event_platform.domain.mail_servers import MailServer
from event_platform.domain.tenants import PIMS_NAMED, ROUTE_FIX, Tenant, may_lack_token_info
from event_platform.domain.timestamps import is_ahead
from event_platform.domain.words import counted
from event_platform.settings import Settings, wrong_setting

from ..errors import BadPims, StoreDamaged, WrongKey
from ..runtime.meters import LastCalls
from ..serving.accepting import RAISE_THE_LIMIT
from ..store import calls, feeds, identity, keys, migrations, opening, schema, times
from ..store import tenants as registry
from ..store.figures import Figures, figures_of
from ..store.room import megabytes
from ..store.steady_clock import describe_lead

T = TypeVar("T")

WAL_RESET_MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The first versions without SQLite's WAL-reset bug, of the latest line and of older ones."""
LARGE_LOG_BYTES = 256 * 1024 * 1024
OLD_BACKUP = timedelta(days=7)
OLDEST_SQLITE = (3, 35)  # DELETE … RETURNING
LEAST_FREE_BYTES = 64 * 1024 * 1024
FEW_FREE_BYTES = 1024 * 1024 * 1024
ASKED_NAME = "example.com"
PROGRAM_SECONDS = 20.0
MAIL_SECONDS = 5.0
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
_ANSWERS_OF_A_RESOLVER = {pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND}


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    MISSING = "missing"  # not there, and only some things need it
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `needed`: without it `aep serve` does not work."""

    name: str
    state: State
    detail: str
    needed: bool = False


def ok(name: str, detail: str) -> Check:
    return Check(name, State.OK, detail)


def missing(name: str, detail: str) -> Check:
    return Check(name, State.MISSING, detail)


def problem(name: str, detail: str) -> Check:
    return Check(name, State.PROBLEM, detail)


def broken(name: str, detail: str) -> Check:
    """Returns a problem that keeps `aep serve` from working."""
    return Check(name, State.PROBLEM, detail, needed=True)


def everything(folder: Path, pims_file: str | None, unknown: Mapping[str, str | None]) -> list[Check]:
    """Runs all checks for the platform that `aep serve` with these options would be.

    `unknown` are the `AEP_` variables that nothing reads, each with the name that may be meant.
    """
    settings, wrong = _settings(pims_file)
    return [
        *of_the_program(settings),
        *wrong,
        *unknown_settings(unknown),
        *of_the_folder(folder, settings),
        *asyncio.run(of_the_surroundings(folder, settings, os.environ)),
    ]


def of_the_program(settings: Settings) -> Iterator[Check]:
    """Runs the checks of Python and the libraries."""
    version = platform.python_version()
    yield ok("python", f"{version}, {sys.executable}")  # an older one does not get as far as here
    yield sqlite(sqlite3.sqlite_version_info)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], settings.connections)


def of_the_folder(folder: Path, settings: Settings) -> Iterator[Check]:
    """Runs the checks of the data folder and its store."""
    yield data_folder(folder)
    free = shutil.disk_usage(_existing(folder)).free
    yield disk(free)
    path = folder / opening.FILE
    yield kept(settings, free + (path.stat().st_size if path.exists() else 0))
    yield key(folder, settings)
    yield store(folder)
    yield from files(figures_of(folder), datetime.now(UTC))
    yield pims(folder, settings)
    yield from tokens(folder, settings)
    yield senders(folder, settings, datetime.now(UTC))
    yield from of_feeds(folder)


async def of_the_surroundings(
    folder: Path, settings: Settings, environment: Mapping[str, str]
) -> list[Check]:
    """Runs the checks of the services around the platform, and of those that its tools use."""
    return [
        await names(name_to_ask(folder, settings), TrustedNetwork()),
        await mail(settings.mail_server()),
        clock(datetime.now(UTC), last_time(folder), lead(folder), environment.get("TZ", "")),
        emulator("pubsub emulator", "PUBSUB_EMULATOR_HOST", "pubsub-emulator", environment),
        emulator("firestore emulator", "FIRESTORE_EMULATOR_HOST", "cloud-firestore-emulator", environment),
        google_credentials(environment),
        pubsub_destinations(rules_on_one_machine(settings.destination_account, environment)),
        program("java", ["-version"], "the emulators"),
        program("pulumi", ["version"], "deploying"),
        program("node", ["--version"], "developing: the type checker and clients in TypeScript"),
    ]


def unknown_settings(unknown: Mapping[str, str | None]) -> Iterator[Check]:
    """Returns a finding for each variable that is misspelt."""
    for name, nearest in unknown.items():
        meant = f"did you mean {nearest}?" if nearest else "docs/settings.md lists them"
        yield problem("settings", f"nothing reads {name}: {meant}")


def sqlite(version: tuple[int, ...]) -> Check:
    shown = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        return broken("sqlite", f"{shown} is too old: use a Python with SQLite 3.35 or later")
    if not _is_mended(version):
        return ok(
            "sqlite",
            f"{shown}, which has the WAL-reset bug (mended in 3.51.3, 3.50.7, 3.44.6): the platform and its"
            " commands keep clear of it; let no other program write or checkpoint aep.db while it runs",
        )
    return ok("sqlite", shown)


def _is_mended(version: tuple[int, ...]) -> bool:
    newest, *older = WAL_RESET_MENDED
    return version >= newest or any(each <= version and version[:2] == each[:2] for each in older)


def open_files(limit: int, connections: int) -> Check:
    """Reads a secret from standard input, as every process would see one on the command line."""
    if limit == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if limit < descriptors.LEAST:
        return broken("open files", f"at most {limit}, and {descriptors.LEAST} are needed: {RAISE_THE_LIMIT}")
    if (most := descriptors.most_clients(connections, limit)) < connections:
        return problem(
            "open files",
            f"at most {limit}, so that AEP_CONNECTIONS={connections} is lowered to {most}: {RAISE_THE_LIMIT}",
        )
    return ok("open files", f"up to {limit}, of which {connections} may be connections of clients")


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


def disk(free: int) -> Check:
    shown = f"{free / 1e9:.1f} GB free" if free >= 1e9 else f"{free / 1e6:.0f} MB free"
    if free < LEAST_FREE_BYTES:
        return broken("disk", f"{shown}: make room, or events will be refused with 503")
    if free < FEW_FREE_BYTES:
        return problem("disk", f"{shown}: make room, a waiting queue needs 2 KB for each delivery")
    return ok("disk", shown)


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


def store(folder: Path) -> Check:
    file = folder / opening.FILE
    try:
        identity.check(file)
    except StoreDamaged as error:
        return broken("store", str(error))
    if not file.exists():
        return ok("store", "none yet; the first start makes it")
    try:
        with closing(opening.connect_to_read(file)) as connection:
            found = migrations.version(connection)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        return broken("store", f"{file} cannot be read: {identity.with_cure(error)}")
    known = len(schema.MIGRATIONS)
    if found > known:
        return broken(
            "store", f"schema version {found}, this program knows up to {known}: run the newer program"
        )
    return ok("store", f"schema version {found}{'' if found == known else '; the next start migrates it'}")


def files(found: Figures, now: datetime) -> Iterator[Check]:
    """Shows the sizes of the store's files, and its last backup; nothing while there is no store."""
    if found.file_bytes == 0:
        return
    shown = f"{megabytes(found.file_bytes)}, and {megabytes(found.wal_bytes)} of write-ahead log"
    if found.wal_bytes > LARGE_LOG_BYTES:
        why = "a reader that keeps the file open (a backup, a shell) lets the log grow: end it"
        yield problem("files", f"{shown}; {why}")
    else:
        yield ok("files", shown)
    if found.backup_at is None:
        yield missing("backup", "none is known: run `aep backup FILE`, each day")
        return
    age = max(timedelta(), now - found.backup_at)
    shown = f"the last one is {counted(age.days, 'day')} and {counted(age.seconds // 3600, 'hour')} old"
    if age > OLD_BACKUP:
        yield problem("backup", f"{shown}: run `aep backup FILE`, each day")
    else:
        yield ok("backup", shown)


def pims(folder: Path, settings: Settings) -> Check:
    try:
        listed = len(_listed(settings, allow_http=settings.dev))
    except BadPims as error:
        return broken("pims", str(error))
    stored = set(_read(folder, _names_of_tenants) or ())
    readable = {tenant.name for tenant in _read(folder, _readable_tenants) or ()}
    if unreadable := sorted(stored - readable):
        return problem(
            "pims",
            f"the platform ignores {', '.join(unreadable[:PIMS_NAMED])}, whose entry cannot be understood:"
            " `aep pims remove URL`, then add it again",
        )
    if listed + len(stored) == 0:
        return missing("pims", "none: register one with `aep pims add URL`, or set AEP_PIMS")
    return ok("pims", f"{len(stored)} in the data folder, {listed} in AEP_PIMS")


def tokens(folder: Path, settings: Settings) -> Iterator[Check]:
    """Returns a finding when PIMs are asked about tokens by a route that they may not have."""
    known = list(_read(folder, _readable_tenants) or ())
    with suppress(BadPims):  # which is a finding of its own
        known += _listed(settings, allow_http=True)
    if unsure := sorted({tenant.name for tenant in known if may_lack_token_info(tenant)}):
        yield missing("tokens", f"{', '.join(unsure[:PIMS_NAMED])}: {ROUTE_FIX}")


def senders(folder: Path, settings: Settings, now: datetime) -> Check:
    """Checks that the last call of each PIM was taken. A PIM sends nothing twice, and reports no refusal."""
    known = _read(folder, calls.read) or {}
    registered = set(_read(folder, _names_of_tenants) or ())
    with suppress(BadPims):  # which is a finding of its own
        registered |= {tenant.name for tenant in _listed(settings, allow_http=True)}
    of_pims = {key: last for key, last in known.items() if key[0] in registered}
    recently = now.timestamp() - LOOK_BACK.total_seconds()
    refused = [
        f"{tenant} by {way}: {_refusal(last)}"
        for (tenant, way), last in of_pims.items()
        if last.is_refused_now and (last.refused_at or 0) > recently
    ]
    if refused:
        more = f"; and {len(refused) - SENDERS_SHOWN} more" if len(refused) > SENDERS_SHOWN else ""
        return problem("senders", "; ".join(refused[:SENDERS_SHOWN]) + more)
    nobodys = [_refusal(last) for (tenant, _), last in known.items() if not tenant and last.is_refused_now]
    stray = f"; a call that was no PIM's: {nobodys[0]}" if nobodys else ""
    taken = max((last.taken_at for last in of_pims.values() if last.taken_at is not None), default=None)
    if taken is None:
        return ok("senders", f"no events came yet{stray}")
    return ok("senders", f"the last events came at {_shown(taken)}; `aep pims list` has all{stray}")


def of_feeds(folder: Path) -> Iterator[Check]:
    """Checks that feeds read what they ask for; nothing where there is no feed."""
    running = _read(folder, feeds.running)
    if not running:
        return
    bad = [
        f"{name}, {resource}: {words}"
        for name, states in running.items()
        for resource, state in states.items()
        if (words := problem_of(state))
    ]
    if bad:
        more = f"; and {len(bad) - SENDERS_SHOWN} more" if len(bad) > SENDERS_SHOWN else ""
        yield problem("feeds", f"{'; '.join(bad[:SENDERS_SHOWN])}{more}; `aep pims feed URL` shows all")
        return
    read = [each.succeeded_at for states in running.values() for each in states.values() if each.succeeded_at]
    shown = f"read last at {max(read):%Y-%m-%dT%H:%M:%SZ}" if read else "nothing was read yet"
    yield ok("feeds", f"{counted(len(running), 'PIM')}; {shown}")


async def names(host: str, network: TrustedNetwork) -> Check:
    """Checks names by c-ares, as deliveries do. The answer "no such name" shows a resolver that works."""
    try:
        found = await network.resolve(host)
    except OSError as error:
        code = error.__cause__.args[0] if error.__cause__ is not None and error.__cause__.args else None
        if code in _ANSWERS_OF_A_RESOLVER:
            return ok("names", f"the resolver answers; it does not know {host}")
        return problem(
            "names", f"{host} could not be looked up ({error.strerror or error}): check /etc/resolv.conf"
        )
    finally:
        await network.close()
    return ok("names", f"{host} is {found[0]}")


async def mail(server: MailServer | None) -> Check:
    """Checks the mail server up to EHLO, and up to TLS and a login where they are set."""
    if server is None:
        return missing(
            "mail", "no AEP_SMTP_URL: subscribers are told by webhook only, and of deletions not at all"
        )
    failure = await SmtpMailer(server, deadline=MAIL_SECONDS).check()
    where = f"{server.host}:{server.port}"
    if failure is not None:
        return problem("mail", f"{where}: {failure.detail}; check AEP_SMTP_URL and the mail server")
    return ok("mail", f"{where} answers{' and takes the login' if server.user else ''}")


def clock(now: datetime, last: datetime | None, lead: float, zone: str) -> Check:
    """Checks the machine's clock: ages and retries begin at it, and continue from the last time in the file.

    `lead` is what the platform noted last: by how many seconds its time is ahead of the clock.
    """
    shown = now.isoformat(timespec="seconds")
    if lead:
        return problem("clock", f"{shown}; {describe_lead(lead)}")
    if last is not None and is_ahead(last, now):
        return problem("clock", f"{shown}; {describe_lead((last - now).total_seconds())}")
    if now.year < 2026:
        return broken("clock", f"{shown} is in the past: set the clock (NTP)")
    if zone and not _is_zone(zone):
        return problem("clock", f"TZ={zone} is no time zone that this machine knows; logs are in UTC anyway")
    return ok("clock", f"{shown}, local time {now.astimezone().strftime('%z')}; logs are in UTC")


def emulator(name: str, variable: str, component: str, environment: Mapping[str, str]) -> Check:
    """Checks an emulator: it runs where the variable says, or is installed in the SDK's platform folder."""
    address = environment.get(variable, "")
    if address:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
                return ok(name, f"answers at {address}")
        except (OSError, ValueError):
            return problem(name, f"{variable}={address}, where nobody answers: start it, or unset {variable}")
    for root in _sdk_roots(environment):
        if (root / "platform" / component).is_dir():
            return ok(name, str(root / "platform" / component))
    return missing(name, f"install it with `gcloud components install {component}`, or set {variable}")


def google_credentials(environment: Mapping[str, str]) -> Check:
    """Checks whether there are credentials; they are not read."""
    name = "google credentials"
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if named and not Path(named).is_file():
        return problem(name, f"GOOGLE_APPLICATION_CREDENTIALS={named} is no file: correct or unset it")
    folder = environment.get("CLOUDSDK_CONFIG") or str(Path.home() / ".config" / "gcloud")
    file = Path(named or Path(folder) / "application_default_credentials.json")
    if not file.is_file():
        return missing(name, "for deploying, run `gcloud auth application-default login`")
    return ok(name, str(file))


def pubsub_destinations(rules: TopicRules) -> Check:
    """Checks whether messages can be published to subscribers' topics, and as whom."""
    name = "pubsub destinations"
    if rules.missing is not None:
        return missing(name, rules.missing)
    shown = rules.account or "what the credentials are"
    return ok(name, f"published to as {shown}, which needs roles/pubsub.publisher on each topic")


def program(name: str, arguments: Sequence[str], needed_for: str) -> Check:
    path = shutil.which(name) or shutil.which(name, path=Path.home() / f".{name}" / "bin")
    if path is None:
        return missing(name, f"not on the PATH; needed for {needed_for}")
    try:
        ran = subprocess.run(  # noqa: S603 - a program of the user's own PATH, asked for its version
            [path, *arguments], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return problem(name, f"{path} does not run: install it again")
    said = re.search(r"[0-9]+(\.[0-9]+)+", ran.stdout + ran.stderr)
    return ok(name, f"{said.group() if said else 'unknown version'}, {path}")


def name_to_ask(folder: Path, settings: Settings) -> str:
    """Returns the host of the first PIM that has a name, else one that every resolver knows."""
    urls = _read(folder, _names_of_tenants) or []
    with suppress(BadPims):  # which is a finding of its own
        urls = [tenant.url or "" for tenant in _listed(settings, allow_http=True)] + urls
    for url in urls:
        host = urlsplit(url).hostname or ""
        if "." in host and not _is_address(host):
            return host
    return ASKED_NAME


def last_time(folder: Path) -> datetime | None:
    """Returns the last time in the file, from which the platform's time continues."""
    last = _read(folder, times.last) or 0.0
    return datetime.fromtimestamp(last, UTC) if last else None


def lead(folder: Path) -> float:
    """Returns by how many seconds the platform's time was ahead of the machine's clock when it last
    looked.
    """
    return _read(folder, times.lead) or 0.0


def _settings(pims_file: str | None) -> tuple[Settings, list[Check]]:
    """Returns the settings; the defaults when a variable is wrong, and a finding about that."""
    given = {} if pims_file is None else {"pims": pims_file}
    try:
        return Settings(**given), []  # pyright: ignore[reportArgumentType] - checked by pydantic
    except ValidationError as error:
        return Settings.model_construct(), [broken("settings", wrong_setting(error))]


def _existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(each for each in (folder, absolute, *absolute.parents) if each.is_dir())


def _refusal(last: LastCalls) -> str:
    advice = ADVICE.get(last.reason or "", "see ingest.refused in the log")
    return f"refused at {_shown(last.refused_at or 0)} with {last.status} ({last.reason}): {advice}"


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _listed(settings: Settings, *, allow_http: bool) -> list[Tenant]:
    text = registry.source_text(settings.pims)
    return registry.parse(text, settings.pims, allow_http=allow_http) if text is not None else []


def _read(folder: Path, job: Callable[[sqlite3.Connection], T]) -> T | None:
    """Returns the result of the job; None when the file cannot be read, which is a finding of its own."""
    file = folder / opening.FILE
    if file.exists():
        with suppress(sqlite3.DatabaseError), closing(opening.connect_to_read(file)) as connection:
            return job(connection)
    return None


def _names_of_tenants(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM tenants")]


def _readable_tenants(connection: sqlite3.Connection) -> list[Tenant]:
    """Returns the entries that can be understood, their secrets still sealed."""
    found: list[Tenant] = []
    for entry in registry.stored_entries(connection):
        with suppress(UnreadableEntry):
            found.append(stored_tenant(entry.document, KeylessSeal()))
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name.removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return re.fullmatch(r"<?[A-Za-z0-9+-]{3,}>?[+-]?[0-9].*", name) is not None  # POSIX: CET-1CEST
    return True


def _sdk_roots(environment: Mapping[str, str]) -> Iterator[Path]:
    """Returns the folders where Google's SDK may be."""
    if root := environment.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    if gcloud := shutil.which("gcloud", path=environment.get("PATH")):
        yield Path(gcloud).resolve().parents[1]
    yield Path.home() / "google-cloud-sdk"
