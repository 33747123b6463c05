"""Sends the notifications of the outbox: one at a time of a subscriber, to a few subscribers at once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from event_platform.domain.errors import CannotConnect, StoreUnavailable
from event_platform.domain.faults import FAULTS_AT_MOST, backoff_seconds
from event_platform.domain.record.notifications import NotificationResult, Pending
from event_platform.domain.subscriptions import Owner
from event_platform.notify import NotifyServices, notify, settle
from event_platform.ports import Clock, Outbox

from ..runtime.meters import Meters
from ..runtime.stopping import DRAIN_SECONDS
from ..runtime.tasks import WatchedTasks, wait_at_most

log = structlog.get_logger()

AT_ONCE = 16
AT_ONCE_OF_OWNER, AT_ONCE_OF_PIM = 2, 8
"""A slow webhook takes 18 s, so neither one owner nor all of a PIM's may take all places."""
READ_AT_ONCE = 400
READ_AFTER = 20
"""The number of notifications that end before the outbox is read again while others can begin."""
LOOK_AFTER = 4.0
"""Seconds after which the outbox is read for mails that are due again."""
STORE_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Fault:
    """The failures of our own code on a notification since the start, and until when it rests (monotonic)."""

    count: int = 0
    rests_until: float = 0.0


class Notifier:
    """Sends notifications from `start` to `stop`; each is called once. `look` reports new ones."""

    def __init__(
        self,
        outbox: Outbox,
        services: NotifyServices,
        meters: Meters,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._outbox = outbox
        self._services = services
        self._meters = meters
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._new = asyncio.Event()
        self._due: dict[str, Pending] = {}
        """The notifications that were read last and are not begun, by id."""
        self._is_outdated = True
        """True if something new may be due since the last reading."""
        self._ended: set[str] = set()
        """The ids of the notifications that have ended since the last reading began."""
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by subscriber
        self._of_owner: Counter[Owner] = Counter()
        self._of_pim: Counter[str] = Counter()
        self._faults: dict[str, _Fault] = {}
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Continues with what the file holds, and then with what comes."""
        self._looking = self._tasks.start(self._poll())

    async def stop(self) -> None:
        """Begins nothing more, and waits for notifications that are being sent."""
        if self._looking is None:
            return
        self._tasks.stopping = True
        self._looking.cancel()
        tasks = list(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
        await asyncio.gather(self._looking, *tasks, return_exceptions=True)

    def look(self) -> None:
        """Notes that there may be a new notification."""
        self._is_outdated = True
        self._new.set()

    async def _poll(self) -> None:
        while True:
            self._new.clear()
            has_begun = self._begin_due()
            if (self._is_outdated or self._ended) and (
                not has_begun or len(self._due) < READ_AT_ONCE // 2 or len(self._ended) >= READ_AFTER
            ):
                try:
                    await self._read()
                except StoreUnavailable as error:
                    await self._store_is_away(error)
                    continue
                self._begin_due()
            await self._until_new()

    async def _read(self) -> None:
        self._is_outdated, self._ended = False, set()
        try:
            due = await self._outbox.due(READ_AT_ONCE)
        except StoreUnavailable:
            self._is_outdated = True
            raise
        self._due = {
            each.notification.id: each for each in due if each.notification.id not in self._ended
        }  # one that ended meanwhile may still be among them

    def _begin_due(self) -> bool:
        """Begins the notifications that may begin now; True if there were any."""
        begun: list[str] = []
        for notification_id, pending in self._due.items():
            if len(self._under_way) >= AT_ONCE:
                break
            if self._begin(pending):
                begun.append(notification_id)
        for notification_id in begun:
            del self._due[notification_id]
        return bool(begun)

    def _begin(self, pending: Pending) -> bool:
        subscriber_id = pending.notification.subscriber_id
        fault = self._faults.get(pending.notification.id)
        if fault and (fault.count >= FAULTS_AT_MOST or self._clock.monotonic() < fault.rests_until):
            return False
        owner = pending.notification.owner
        if (
            subscriber_id in self._under_way
            or self._of_owner[owner] >= AT_ONCE_OF_OWNER
            or self._of_pim[owner.tenant] >= AT_ONCE_OF_PIM
        ):
            return False
        self._of_owner[owner] += 1
        self._of_pim[owner.tenant] += 1
        self._under_way[subscriber_id] = self._tasks.start(self._notify(pending))
        return True

    async def _notify(self, pending: Pending) -> None:
        """Sends one notification. After it another one of the same subscriber may begin."""
        notification = pending.notification
        ended = [notification.id]
        try:
            result = await notify(pending, services=self._services)
            ended += [each.notification.id for each in result.merged]
            await self._settle(pending, result)
        except StoreUnavailable as error:
            await self._store_is_away(error)
        except CannotConnect as error:  # says nothing about this notification
            log.warning(error.log_event, notification_id=notification.id, error=str(error))
            await self._clock.sleep(STORE_RETRY_SECONDS)
        except Exception:
            log.exception("notification.nacked", notification_id=notification.id)
            self._failed(notification.id)
        else:
            self._faults.pop(notification.id, None)
            self._meters.notified(result.results)
        finally:
            del self._under_way[notification.subscriber_id]
            self._of_owner -= Counter([notification.owner])
            self._of_pim -= Counter([notification.owner.tenant])
            self._ended.update(ended)
            for notification_id in ended:
                self._due.pop(notification_id, None)
            self._new.set()

    async def _settle(self, pending: Pending, result: NotificationResult) -> None:
        """Settles a notification, and tries again while the store is away: it is not sent again for that."""
        while True:
            try:
                return await settle(self._outbox, pending, result)
            except StoreUnavailable as error:
                await self._store_is_away(error)

    def _failed(self, notification_id: str) -> None:
        """Counts a failure of our own code.

        The notification is tried later; after FAULTS_AT_MOST, at the next start.
        """
        fault = self._faults.setdefault(notification_id, _Fault())
        fault.count += 1
        fault.rests_until = self._clock.monotonic() + backoff_seconds(fault.count)
        if fault.count == FAULTS_AT_MOST:
            log.error(
                "notification.set_aside",
                notification_id=notification_id,
                fix="it stays in the store and is tried again by the next start",
            )

    async def _until_new(self) -> None:
        if await wait_at_most(self._new, self._clock, LOOK_AFTER):  # others may set it meanwhile
            self._is_outdated = True

    async def _store_is_away(self, error: StoreUnavailable) -> None:
        log.warning("notifications.store_unavailable", error=str(error))
        await self._clock.sleep(STORE_RETRY_SECONDS)
