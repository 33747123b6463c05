"""The port `Outbox`, in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from event_platform.domain.record.notifications import Allowance, Pending, hour_of
from support.clock import ManualClock


@dataclass
class MemoryOutbox:
    """Notifications by their ids, when each is due, and what was sent to each address."""

    clock: ManualClock
    notifications: dict[str, Pending] = field(default_factory=dict[str, Pending])
    due_at: dict[str, datetime] = field(default_factory=dict[str, datetime])
    counts: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])

    def put(self, *several: Pending) -> None:
        for pending in several:
            self.notifications[pending.notification.id] = pending
            self.due_at[pending.notification.id] = self.clock.now()

    @property
    def pending(self) -> list[Pending]:
        return list(self.notifications.values())

    async def due(self, limit: int) -> Sequence[Pending]:
        due = sorted((at, key) for key, at in self.due_at.items() if at <= self.clock.now())
        return [self.notifications[key] for _, key in due[:limit]]

    async def settle(
        self, pending: Pending, again_at: datetime | None, merged: Sequence[Pending] = ()
    ) -> None:
        for key in [each.notification.id for each in (pending, *merged)]:
            if again_at is None:
                self.notifications.pop(key, None)
                self.due_at.pop(key, None)
            else:
                stored = self.notifications[key]
                self.notifications[key] = replace(stored, mail_attempts=pending.mail_attempts + 1)
                self.due_at[key] = again_at

    async def hold(self, pending: Pending, until: datetime, *, mail_attempts: int) -> None:
        if (key := pending.notification.id) not in self.notifications:
            return
        self.notifications[key] = replace(pending, mail_attempts=mail_attempts, is_held=True)
        self.due_at[key] = until

    async def held(self, subscriber_id: str, limit: int) -> Sequence[Pending]:
        found = sorted(
            (key, each)
            for key, each in self.notifications.items()
            if each.is_held and each.notification.subscriber_id == subscriber_id
        )
        return [each for _, each in found[:limit]]

    async def count(self, allowances: Sequence[Allowance]) -> bool:
        hour = hour_of(self.clock.now())
        left = [
            each.is_left(self.counts[hour, each.own_key], self.counts[hour, each.shared_key])
            for each in allowances
        ]
        if all(left):
            self.counts.update((hour, key) for each in allowances for key in (each.own_key, each.shared_key))
        return all(left)
