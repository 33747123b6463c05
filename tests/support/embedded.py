"""The embedded store and its queue on a folder, as far as tests of one machine need them."""

from datetime import timedelta
from pathlib import Path

from aep.broker.queue import LONGEST_DELAY, DurableQueue
from aep.runtime.meters import Meters
from aep.store.database import Database
from aep.store.subscriptions import SqliteSubscriptions
from event_platform.adapters.seal import AesGcmSeal
from event_platform.ports import Clock

SEAL = AesGcmSeal(b"\x01" * 32)


class Embedded:
    """The parts, opened but for the queue, which a test opens with who listens to it."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        meters: Meters | None = None,
        longest_delay: timedelta = LONGEST_DELAY,
        *,
        keeps: bool = True,
    ) -> None:
        self.meters = meters or Meters()
        self.database = Database(folder, self.meters)
        self.database.open()
        self.subscriptions = SqliteSubscriptions(self.database, SEAL)
        self.queue = DurableQueue(
            self.database,
            self.subscriptions,
            clock,
            schema_base="https://x/spec",
            longest_delay=longest_delay,
            meters=self.meters,
            keeps=keeps,
        )

    async def forget_kept(self) -> None:
        """Removes all kept events, as when their time is over."""
        await self.database.write(lambda connection: connection.execute("DELETE FROM kept"))

    async def count(self, table: str) -> int:
        """The number of rows of a table."""
        return await self.database.read(
            lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        )
