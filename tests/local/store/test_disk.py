"""What a full disk and a kill in the middle of the file's upkeep do: nothing is lost, work goes on."""

import mmap
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
import pytest
import requests

from aep.runtime.children import aep
from aep.store import migrations, opening, schema
from support import one_pim
from support.processes import (
    START_SECONDS,
    Child,
    Client,
    SimulatedPim,
    command,
    environment,
    free_port,
    http,
    ready,
    received,
    send_events,
    server,
    until,
)
from support.records import UPDATED

INGEST_KEY = "an ingest key of tests"
SECRET = "a signing secret of tests"
DISK_BYTES = 64 * 1024 * 1024


@dataclass
class SmallDisk:
    """A small file system of its own, seen through the process that has it mounted."""

    folder: Path
    holder: int

    @property
    def seen_from_here(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.folder}")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def inside(self, *command: str) -> list[str]:
        """The command, to be run where the file system is mounted."""
        namespaces = ["nsenter", "--user", "--mount", "--target", str(self.holder), "--preserve-credentials"]
        return [*namespaces, *command]

    def query(self, sql: str) -> str:
        """The first value of a query, asked from inside its file system."""
        script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
        python = [sys.executable, "-c", script, str(self.data / opening.FILE), sql]
        return subprocess.run(self.inside(*python), check=True, capture_output=True, text=True).stdout.strip()

    def fill(self) -> None:
        with (self.seen_from_here / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError:
                return

    def make_room(self) -> None:
        (self.seen_from_here / "filler").unlink()

    @contextmanager
    def serving(self, pim: SimulatedPim) -> Iterator[Child]:
        """`aep serve` with its data folder there."""
        serve = aep("serve", "--dev", "--port", "0", "--data", str(self.data))
        pims = orjson.dumps([{"url": pim.url, "ingest_key": INGEST_KEY}]).decode()
        settings = {"AEP_PIMS": pims, "AEP_RETRY_DELAYS": ",".join(["0.3"] * 90)}
        out, err = self.folder.parent / "small.out", self.folder.parent / "small.err"
        with Child(
            "aep serve", self.inside(*serve), stdout=out, stderr=err, environment=environment(settings)
        ) as child:
            yield ready(child)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A tmpfs of some megabytes in a mount namespace. Skips the test where such may not be made."""
    if not namespaces_work():
        pytest.skip("user and mount namespaces may not be made here")
    disk = folder / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && echo mounted && exec sleep 600'
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(disk)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        yield SmallDisk(disk, holder.pid)
    finally:
        holder.kill()
        holder.wait()


def namespaces_work() -> bool:
    """Whether a user without rights may mount in a namespace of its own here."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def subscribe(client: Client, url: str) -> str:
    contact = {"technical_email": "ops@example.com"}
    subscriber = client.call("POST", "/subscribers", {"name": "disk", "contact": contact}, expect=201)
    config = {"url": url, "secret": {"primary": SECRET}}
    body = {"events": [UPDATED], "type": "https", "config": config}
    client.call("POST", f"/subscribers/{subscriber['id']}/subscriptions", body, expect=201)
    return subscriber["id"]


def an_event(number: int) -> dict[str, object]:
    product = {"uuid": f"3f1a2c9e-58a1-4f3c-9a45-{number:012}"}
    data = {"product": product, "author": {"identifier": "tests", "type": "system"}, "pad": "x" * 1000}
    return {"specversion": "1.0", "id": f"disk-{number}", "type": UPDATED, "data": data}


def ready_status(platform: str) -> tuple[int, str]:
    answer = http().get(f"{platform}/ready", timeout=10)
    return answer.status_code, answer.json().get("errors", [{"message": ""}])[0]["message"]


@pytest.mark.timeout(120)
def test_a_full_disk_is_a_503_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path) as disk,
        server(tmp_path, "sim") as sim,
        server(tmp_path, "inbox", "--secret", SECRET, "--quiet", "--keep", "10000") as inbox,
        disk.serving(SimulatedPim(sim.url)) as serve,
    ):
        platform = serve.url
        client = SimulatedPim(sim.url).client(platform)
        subscriber = subscribe(client, f"{inbox.url}/ok")
        assert send_events(platform, INGEST_KEY, *map(an_event, range(10))) == 202
        assert ready_status(platform)[0] == 200
        until(lambda: len(received(inbox.url, "/ok")) == 10, "the first events")
        disk.fill()

        statuses: list[int] = []
        answered = list(range(10))
        for start in range(100, 5000, 50):  # what is left inside the file takes some of them
            statuses.append(send_events(platform, INGEST_KEY, *map(an_event, range(start, start + 50))))
            if statuses[-1] == 503:
                break
            answered += range(start, start + 50)
        assert set(statuses) <= {202, 503}
        assert statuses[-1] == 503
        until(lambda: ready_status(platform)[0] == 503, "/ready to know")
        assert "make room" in ready_status(platform)[1]
        refused = client.call("PATCH", f"/subscribers/{subscriber}", {"name": "n" * 200})
        assert refused.status_code == 503
        assert "cannot be written" in refused.json()["errors"][0]["message"]
        assert client.call("GET", f"/subscribers/{subscriber}", expect=200)["name"] == "disk"

        disk.make_room()
        until(lambda: ready_status(platform)[0] == 200, "/ready to know that there is room")
        assert send_events(platform, INGEST_KEY, an_event(9000)) == 202
        client.call("PATCH", f"/subscribers/{subscriber}", {"name": "room"}, expect=200)
        expected = {f"disk-{number}" for number in [*answered, 9000]}
        until(lambda: expected <= {one["id"] for one in received(inbox.url, "/ok")}, "every answered event")
        until(lambda: disk.query("SELECT count(*) FROM deliveries") == "0", "every settlement")
        assert disk.query("PRAGMA integrity_check") == "ok"


@pytest.mark.full
@pytest.mark.timeout(120)
def test_a_start_on_a_full_disk_empties_the_queue(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, server(tmp_path, "sim") as sim:
        pim, port = SimulatedPim(sim.url), str(free_port())
        with (
            server(tmp_path, "inbox", "--quiet", "--behaviour", "500", "--port", port) as failing,
            disk.serving(pim) as serve,
        ):
            subscribe(pim.client(serve.url), f"{failing.url}/hook")
            for start in range(0, 500, 50):
                assert send_events(serve.url, INGEST_KEY, *map(an_event, range(start, start + 50))) == 202
            assert serve.stop() == 0
        disk.fill()
        with (
            server(tmp_path, "inbox", "--quiet", "--keep", "1000", "--port", port) as inbox,
            disk.serving(pim) as serve,
        ):
            assert ready_status(serve.url)[0] == 503
            assert send_events(serve.url, INGEST_KEY, an_event(1000)) == 503
            until(lambda: len(set(one_pim.ids_received(inbox.url))) == 500, "all that waited", seconds=60)
            waiting = "SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM retries)"
            until(lambda: disk.query(waiting) == "0", "an empty queue")
            disk.make_room()
            until(lambda: ready_status(serve.url)[0] == 200, "/ready to know that there is room")
            assert send_events(serve.url, INGEST_KEY, an_event(1001)) == 202
        assert "store.out_of_room" in serve.stderr()


WRITE_UNTIL_REFUSED = """
import asyncio, pathlib, resource, sys
from aep.store import database as module
from event_platform.domain.errors import StoreUnavailable

async def main():
    database = module.Database(pathlib.Path(sys.argv[1]))
    database.open()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    written = 0
    try:
        while True:
            row = (str(written), "x" * 100_000)
            await database.write(lambda c: c.execute("INSERT INTO meta VALUES (?, ?)", row))
            written += 1
    except StoreUnavailable as error:
        print(error, "|", database.room.problem, file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while database.room.problem is not None:
        await asyncio.sleep(0.01)
    count = "SELECT count(*) FROM meta WHERE name <> 'probe'"
    print(written == await database.read(lambda c: c.execute(count).fetchone()[0]), file=sys.stderr)
    await database.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_is_said_and_written_again_when_it_may(tmp_path: Path) -> None:
    """The system refuses what SQLite writes, as it does when a quota is used up."""
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_REFUSED, str(tmp_path)], check=True, capture_output=True, text=True
    )
    said, kept_all = ended.stderr.splitlines()
    message, problem = said.split(" | ")
    assert message == problem
    assert re.fullmatch(
        "the store cannot be written: its disk does not read or write; [0-9.]+ MB are left on its disk:"
        " make room there",
        message,
    )
    assert kept_all == "True"


WRITE_AND_CHECKPOINT = """
import asyncio, sys, pathlib
from aep.store import checkpoints, database as module

checkpoints.LONGEST_SECONDS = checkpoints.SHORTEST_SECONDS = 0.0

async def main():
    database = module.Database(pathlib.Path(sys.argv[1]))
    database.open()
    number = int(sys.argv[2])
    while True:
        row = (str(number), "x" * 20000)
        await database.write(lambda c: c.execute("INSERT INTO meta VALUES (?, ?)", row))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""

MIGRATE_SLOWLY = """
import asyncio, sys, pathlib
from aep.store import database as module, schema

schema.MIGRATIONS = (*schema.MIGRATIONS, '''
CREATE TABLE copies (name TEXT);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)
    INSERT INTO copies SELECT i FROM n;
''')

async def main():
    database = module.Database(pathlib.Path(sys.argv[1]))
    print("migrating", flush=True)
    database.open()

asyncio.run(main())
"""


def run_and_kill(script: str, *arguments: str, after: float) -> list[str]:
    """Lines that the script printed until it was killed."""
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    time.sleep(after)  # the random moment is the point
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines()
    process.wait()
    return [line.strip() for line in lines]


def test_a_kill_during_checkpoints_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    committed = 0
    for _ in range(8):
        after = random.uniform(0.02, 0.3)
        lines = run_and_kill(WRITE_AND_CHECKPOINT, str(tmp_path), str(committed + 1), after=after)
        announced = int(lines[-1])
        with closing(opening.connect(tmp_path / opening.FILE)) as connection:
            names = {int(name) for (name,) in connection.execute("SELECT name FROM meta")}
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert set(range(1, announced + 1)) <= names
        committed = max(names)


class Checkpoints:
    """What the index of the write-ahead log says of checkpoints (sqlite.org/walformat.html 2.1.1)."""

    def __init__(self, data: Path) -> None:
        with (data / f"{opening.FILE}-shm").open("rb") as file:
            self._index = mmap.mmap(file.fileno(), 136, access=mmap.ACCESS_READ)

    def under_way(self) -> bool:
        """More frames are being copied into the file than are known to have reached the disk there."""
        copied, attempted = (struct.unpack_from("=I", self._index, at)[0] for at in (96, 128))
        return attempted > copied

    def wait_for_one(self) -> None:
        deadline = time.monotonic() + 60
        while not self.under_way():  # without a pause, as one takes milliseconds
            assert time.monotonic() < deadline, "no checkpoint began"


class LargeEvents(threading.Thread):
    """Sends events without a pause, each request large enough for a checkpoint behind it."""

    def __init__(self, platform: str) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self.answered: list[str] = []

    def run(self) -> None:
        with suppress(requests.RequestException):  # the kill
            while True:
                events = [one_pim.event() for _ in range(5)]
                for event in events:
                    event["data"]["pad"] = "x" * 850_000
                if send_events(self._platform, one_pim.INGEST_KEY, *events) == 202:
                    self.answered += [event["id"] for event in events]


@pytest.mark.full
@pytest.mark.timeout(240)
def test_a_platform_killed_in_the_middle_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    arguments, port = one_pim.arguments(tmp_path), str(free_port())
    with server(tmp_path, "inbox", "--quiet", "--behaviour", "500", "--port", port) as failing:
        with server(tmp_path, *arguments) as platform:
            one_pim.subscribe(platform, f"{failing.url}/hook")
        answered: set[str] = set()
        in_the_middle = 0
        for _ in range(6):
            with server(tmp_path, *arguments) as platform:
                sender = LargeEvents(platform.url)
                checkpoints = Checkpoints(data)
                sender.start()
                until(lambda sender=sender: sender.answered, "an event that was answered")
                checkpoints.wait_for_one()
                platform.kill_group()
                in_the_middle += checkpoints.under_way()
                sender.join(10)
                answered |= set(sender.answered)
            assert one_pim.rows(data / opening.FILE, "PRAGMA integrity_check") == [("ok",)]
            kept = {event_id for (event_id,) in one_pim.rows(data / opening.FILE, "SELECT id FROM kept")}
            assert answered <= kept
        print(f"{in_the_middle} of 6 kills in the middle of a checkpoint")
        assert in_the_middle > 0
    with (
        server(tmp_path, "inbox", "--quiet", "--port", port) as inbox,
        server(tmp_path, *arguments) as platform,
    ):
        fresh = one_pim.emit(platform)
        # Behind all that was answered, which is read back each time.
        arrived = partial(one_pim.ids_received, inbox.url)
        until(lambda: set(fresh) <= set(arrived()), "deliveries after the kills", seconds=90)


@pytest.mark.full
def test_a_kill_during_a_migration_leaves_the_old_file(tmp_path: Path) -> None:
    with closing(opening.connect(tmp_path / opening.FILE)) as connection:
        migrations.prepare(connection)
        connection.execute("INSERT INTO meta VALUES ('before', '')")
    for _ in range(5):
        run_and_kill(MIGRATE_SLOWLY, str(tmp_path), after=random.uniform(0.0, 0.4))
        with closing(opening.connect(tmp_path / opening.FILE)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert migrations.version(connection) == len(schema.MIGRATIONS)
            assert connection.execute("SELECT name FROM meta").fetchall() == [("before",)]
            tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
            assert ("copies",) not in tables


@pytest.mark.full
def test_after_killed_migrations_one_succeeds_and_so_does_the_older_program_before_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    arguments = one_pim.arguments(tmp_path)
    with server(tmp_path, "inbox", "--quiet", "--behaviour", "500") as failing:
        with server(tmp_path, *arguments) as platform:
            one_pim.subscribe(platform, f"{failing.url}/hook")
            sent = set(one_pim.emit(platform, 20))
            platform.kill_group()
        for _ in range(3):
            run_and_kill(MIGRATE_SLOWLY, str(data), after=random.uniform(0.0, 0.4))
        with server(tmp_path, *arguments) as platform:  # the program that was there before
            sent |= set(one_pim.emit(platform, 5))
            platform.kill_group()
        subprocess.run([sys.executable, "-c", MIGRATE_SLOWLY, str(data)], check=True, capture_output=True)
        with command(tmp_path, *arguments, "--port", "0") as older:
            assert older.wait(START_SECONDS) == 1
            assert f"knows versions up to {len(schema.MIGRATIONS)}" in older.stderr()
    file = data / opening.FILE
    assert one_pim.rows(file, "PRAGMA integrity_check") == [("ok",)]
    assert one_pim.rows(file, "SELECT count(*) FROM copies") == [(3_000_000,)]
    assert {event_id for (event_id,) in one_pim.rows(file, "SELECT id FROM kept")} == sent


@pytest.mark.full
def test_a_kill_during_the_first_start_leaves_a_folder_that_starts(tmp_path: Path) -> None:
    for number in range(6):
        serve = ("serve", "--data", str(tmp_path / f"data-{number}"), "--port", "0")
        with command(tmp_path, *serve) as starting:
            time.sleep(random.uniform(0.3, 1.0))  # the random moment is the point
            starting.kill_group()
        with server(tmp_path, *serve) as platform:
            assert platform.stop() == 0
