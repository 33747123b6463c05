"""Subscribers and subscriptions in the SQLite file: `Subscriptions`, `SubscriptionLookup` and `Paces`."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import orjson
import structlog

from event_platform.adapters.suspension_lines import log_suspensions
from event_platform.documents import (
    pace_document,
    subscriber_document,
    subscriber_of,
    subscription_document,
    subscription_of,
)
from event_platform.domain.errors import Conflict, NotFound, TooManyRequests
from event_platform.domain.line_limit import LineLimit
from event_platform.domain.paced import with_pace_of
from event_platform.domain.record.actions import BY_THE_PLATFORM, Action, Actor, entry_of
from event_platform.domain.record.notifications import Change, notifications_of
from event_platform.domain.revocations import RemovedClient
from event_platform.domain.subscriptions import (
    Owner,
    Status,
    Subscriber,
    Subscription,
    revoke_subscriber,
    revoke_subscription,
    suspend,
)
from event_platform.domain.topic_claims import LOST, topic_to_claim, topic_to_release
from event_platform.ports import Seal

from . import replays, topic_claims
from .current import CurrentSubscriptions
from .database import Database
from .logs import put_entry
from .outbox import put_notifications
from .recipients import ActiveRecipients, check_snapshots

log = structlog.get_logger()


class Copies(Protocol):
    """The copies of records elsewhere in memory. Called in the event loop, in the order of the commits."""

    def changed(self, subscriptions: Sequence[Subscription]) -> None:
        """Replaces the copies of these subscriptions."""
        ...

    def forgotten(self, ids: Sequence[str]) -> None:
        """Drops the copies of these subscriptions."""
        ...

    async def in_force(self) -> None:
        """Returns when all copies have all changes so far."""
        ...


class _NoCopies:
    def changed(self, subscriptions: Sequence[Subscription]) -> None:
        pass

    def forgotten(self, ids: Sequence[str]) -> None:
        pass

    async def in_force(self) -> None:
        pass


class SqliteSubscriptions:
    """The records, and two caches of them that each change brings up to date: by id, and `active` for
    matching.
    """

    def __init__(self, database: Database, seal: Seal, *, keeps: bool = True) -> None:
        self._database = database
        self._keeps = keeps
        self._seal = seal
        self._current = CurrentSubscriptions()
        self.active = ActiveRecipients()
        database.on_rollback.append(self.active.forget)
        self._lines = LineLimit(time.monotonic)  # used in the writer thread only
        self.copies: Copies = _NoCopies()
        self.on_change: list[Callable[[], None]] = []
        """Callbacks in the event loop, after changes that may have put a notification into the outbox."""

    async def add_subscriber(
        self, subscriber: Subscriber, *, limit: int, action: Action = BY_THE_PLATFORM
    ) -> None:
        def job(connection: sqlite3.Connection) -> None:
            (count,) = connection.execute(
                "SELECT count(*) FROM subscribers WHERE tenant = ? AND status <> 'deleted'",
                (subscriber.owner.tenant,),
            ).fetchone()
            if count >= limit:
                raise Conflict(f"the PIM has {count} subscribers; at most {limit} are allowed")
            put_subscriber(connection, self._seal, subscriber)
            _log(connection, None, subscriber, action)

        await self._database.write(job)

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        return await self._database.read(partial(self._subscriber, owner=owner, subscriber_id=subscriber_id))

    async def subscribers(self, owner: Owner) -> Sequence[Subscriber]:
        return await self._database.read(partial(self._subscribers, owner=owner))

    async def change_subscriber(
        self,
        owner: Owner,
        subscriber_id: str,
        change: Callable[[Subscriber], Subscriber],
        *,
        and_subscriptions: Callable[[Subscription], Subscription] | None = None,
        action: Action = BY_THE_PLATFORM,
    ) -> Subscriber:
        def job(connection: sqlite3.Connection) -> tuple[Subscriber, list[Subscription]]:
            if and_subscriptions is not None:
                self._check_snapshots(connection, owner, action)
            return self._change_subscriber(
                connection, owner, subscriber_id, change, and_subscriptions=and_subscriptions, action=action
            )

        subscriber, _ = await self._database.write(job, lambda result: self.remember(result[1]))
        await self.copies.in_force()
        return subscriber

    async def add_subscription(
        self,
        subscription: Subscription,
        check: Callable[[Subscriber], None],
        *,
        limit: int,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
    ) -> None:
        def job(connection: sqlite3.Connection) -> list[Subscription]:
            self._check_snapshots(connection, subscription.owner, action)
            check(
                self._subscriber(
                    connection, owner=subscription.owner, subscriber_id=subscription.subscriber_id
                )
            )
            existing = self._subscriptions(connection, subscriber_id=subscription.subscriber_id)
            if len(existing) >= limit:
                raise Conflict(
                    f"the subscriber has {len(existing)} subscriptions; at most {limit} are allowed"
                )
            lost = self._claim_topic(connection, None, subscription, takes_topic=takes_topic)
            self._put_subscription(connection, subscription)
            _log(connection, None, subscription, action)
            return [subscription, *lost]

        await self._database.write(job, self.remember)
        if takes_topic:
            await self.copies.in_force()

    async def subscription(self, owner: Owner, subscriber_id: str, subscription_id: str) -> Subscription:
        return await self._database.read(
            partial(
                self._subscription, owner=owner, subscriber_id=subscriber_id, subscription_id=subscription_id
            )
        )

    async def subscriptions(self, owner: Owner, subscriber_id: str) -> Sequence[Subscription]:
        def job(connection: sqlite3.Connection) -> list[Subscription]:
            self._subscriber(connection, owner=owner, subscriber_id=subscriber_id)
            return self._subscriptions(connection, subscriber_id=subscriber_id)

        return await self._database.read(job)

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
        catch_up: bool | None = None,
    ) -> Subscription:
        def job(connection: sqlite3.Connection) -> list[Subscription]:
            self._check_snapshots(connection, owner, action)
            return self.change_in(
                connection,
                owner,
                subscriber_id,
                subscription_id,
                change,
                action=action,
                takes_topic=takes_topic,
                catch_up=catch_up,
            )

        after, *_ = await self._database.write(job, self.remember)
        await self.copies.in_force()
        return after

    def change_in(
        self,
        connection: sqlite3.Connection,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action,
        takes_topic: bool = False,
        catch_up: bool | None = None,
    ) -> list[Subscription]:
        """Does the same as `change_subscription` inside a job of the writer; its commit has the result
        remembered.

        Returns the changed subscription first, and then those of which it took the topic.
        """
        before = self._subscription(
            connection, owner=owner, subscriber_id=subscriber_id, subscription_id=subscription_id
        )
        after = change(before)
        if after is before:
            return [after]
        lost = self._claim_topic(connection, before, after, takes_topic=takes_topic)
        self._put_subscription(connection, after)
        self._release_topics(connection, [(before, after)])
        _log(connection, before, after, action)
        self._announce(connection, [(before, after)], action, catch_up=catch_up)
        return [after, *lost]

    def revoke_in(self, connection: sqlite3.Connection, client: RemovedClient) -> list[Subscription]:
        """Revokes what the client has, inside a job of the writer.

        Returns the subscriptions of what it revoked, to be remembered on the commit.
        """
        changed: list[Subscription] = []
        for subscriber in self._subscribers(connection, client.owner):
            if client.loses(subscriber):
                _, subscriptions = self._change_subscriber(
                    connection,
                    client.owner,
                    subscriber.id,
                    partial(revoke_subscriber, now=client.at),
                    and_subscriptions=partial(revoke_subscription, now=client.at),
                    action=client.action,
                )
                changed += subscriptions
        return changed

    def remember(self, subscriptions: Sequence[Subscription]) -> None:
        """Puts the changed subscriptions into the caches.

        Called in the event loop when the change is committed.
        """
        self._remember(subscriptions)
        for callback in self.on_change:
            callback()

    def _change_subscriber(
        self,
        connection: sqlite3.Connection,
        owner: Owner,
        subscriber_id: str,
        change: Callable[[Subscriber], Subscriber],
        *,
        and_subscriptions: Callable[[Subscription], Subscription] | None,
        action: Action,
    ) -> tuple[Subscriber, list[Subscription]]:
        before = self._subscriber(connection, owner=owner, subscriber_id=subscriber_id)
        after = change(before)
        if after is not before:
            put_subscriber(connection, self._seal, after)
            _log(connection, before, after, action)
        if and_subscriptions is None:
            return after, []
        rest = self._subscriptions(connection, subscriber_id=subscriber_id)
        changed = [and_subscriptions(subscription) for subscription in rest]
        for subscription_before, subscription in zip(rest, changed, strict=True):
            if subscription is not subscription_before:
                self._put_subscription(connection, subscription)
                _log(connection, subscription_before, subscription, action)
        self._release_topics(connection, zip(rest, changed, strict=True))
        changes: list[Change] = [(before, after), *zip(rest, changed, strict=True)]
        self._announce(connection, changes, action)
        return after, changed

    async def current(self, subscription_id: str) -> Subscription | None:
        known = self._current.by_id.get(subscription_id)
        if known is not None:
            return known

        def job(connection: sqlite3.Connection) -> Subscription | None:
            row = connection.execute(
                "SELECT document FROM subscriptions WHERE id = ?", (subscription_id,)
            ).fetchone()
            return subscription_of(orjson.loads(row[0]), self._seal) if row else None

        return await self._current.read(subscription_id, lambda: self._database.read(job))

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        """Changes the pace, as the port `Paces` says.

        The writer has one job at a time, so no other change comes between.
        """

        def job(connection: sqlite3.Connection) -> Subscription | None:
            row = connection.execute(
                "SELECT document FROM subscriptions WHERE id = ?", (subscription_id,)
            ).fetchone()
            if row is None:
                return None
            document = orjson.loads(row[0])
            before = subscription_of(document, self._seal)
            changed = change(before)
            if changed is before:
                return before
            after = with_pace_of(before, changed)
            if after.lanes != before.lanes:  # fan-out looks at the lanes, never at the rate
                self.active.change_lanes(after)
            document |= pace_document(after)
            connection.execute(
                "UPDATE subscriptions SET document = ? WHERE id = ?",
                (orjson.dumps(document).decode(), subscription_id),
            )
            return after

        def remember(after: Subscription | None) -> None:
            if after is not None:
                self._remember([after])

        await self._database.write(job, remember, needs_room=False)

    def one_of(
        self, connection: sqlite3.Connection, *, owner: Owner, subscriber_id: str, subscription_id: str
    ) -> Subscription:
        """Returns the owner's subscription, inside a job. Raises NotFound."""
        return self._subscription(
            connection, owner=owner, subscriber_id=subscriber_id, subscription_id=subscription_id
        )

    def numbered(self, connection: sqlite3.Connection, number: int) -> Subscription | None:
        """Returns the subscription by the number that the queue knows it by, inside a job."""
        row = connection.execute("SELECT document FROM subscriptions WHERE no = ?", (number,)).fetchone()
        return None if row is None else subscription_of(orjson.loads(row[0]), self._seal)

    def put_replay_id(
        self, connection: sqlite3.Connection, subscription: Subscription, replay_id: str | None
    ) -> Subscription:
        """Has the deliveries of this replay be sent, and of no other one, inside a job of the writer.

        Returns the changed record, to be remembered. Fan-out does not look at it.
        """
        connection.execute(
            "UPDATE subscriptions SET document = json_set(document, '$.replay_id', ?) WHERE id = ?",
            (replay_id, subscription.id),
        )
        return replace(subscription, replay_id=replay_id)

    async def forget_deleted(self, *, before: float) -> None:
        """Drops subscriptions deleted before that time (unix seconds) that have nothing in the queue any
        more.
        """

        def job(connection: sqlite3.Connection) -> list[str]:
            gone = connection.execute(
                "DELETE FROM subscriptions WHERE status = 'deleted' AND updated_at < ?"
                " AND no NOT IN (SELECT subscription_no FROM deliveries)"
                " AND no NOT IN (SELECT subscription_no FROM retries)"
                " AND no NOT IN (SELECT subscription_no FROM dead_letters)"
                " AND NOT EXISTS (SELECT 1 FROM accepted WHERE accepted.tenant = subscriptions.tenant)"
                # Its number comes again, and what is kept of its deliveries must not be another's then.
                " AND updated_at < coalesce((SELECT accepted_at FROM kept ORDER BY no LIMIT 1), ?)"
                " RETURNING id",
                (before, before),
            ).fetchall()
            connection.execute(
                "DELETE FROM last_failures WHERE subscription_no NOT IN (SELECT no FROM subscriptions)"
            )
            connection.execute(
                "DELETE FROM subscribers WHERE status = 'deleted' AND updated_at < ?"
                " AND id NOT IN (SELECT subscriber_id FROM subscriptions)",
                (before,),
            )
            if gone:
                connection.execute(
                    "DELETE FROM replays WHERE subscription_no NOT IN (SELECT no FROM subscriptions)"
                )
            return [subscription_id for (subscription_id,) in gone]

        def forget(gone: list[str]) -> None:
            self._current.forget(gone)
            self.copies.forgotten(gone)

        expired = await self._database.read(
            lambda connection: connection.execute(
                "SELECT EXISTS (SELECT 1 FROM subscriptions WHERE status = 'deleted' AND updated_at < ?"
                " UNION ALL SELECT 1 FROM subscribers WHERE status = 'deleted' AND updated_at < ?)",
                (before, before),
            ).fetchone()[0]
        )
        if expired:
            await self._database.write(job, forget, needs_room=False)

    def _check_snapshots(self, connection: sqlite3.Connection, owner: Owner, action: Action) -> None:
        """Raises TooManyRequests if a user has to wait with a change, and logs that once a minute."""
        if action.by is not Actor.USER:
            return
        try:
            check_snapshots(connection, owner)
        except TooManyRequests:
            if times := self._lines.count(owner):
                log.warning(
                    "changes.refused_behind", tenant=owner.tenant, client_id=owner.client_id, times=times
                )
            raise

    def _claim_topic(
        self,
        connection: sqlite3.Connection,
        before: Subscription | None,
        after: Subscription,
        *,
        takes_topic: bool,
    ) -> list[Subscription]:
        """Makes the owner the holder of the topic that the change needs.

        Returns the subscriptions suspended by this.
        """
        topic = topic_to_claim(before, after)
        if topic is None:
            return []
        others = topic_claims.claim(connection, self._seal, topic, after.owner, takes_topic=takes_topic)
        lost: list[Subscription] = []
        for other in others:
            suspended = suspend(other, after.updated_at)
            if suspended is not other:
                self._put_subscription(connection, suspended)
                _log(connection, other, suspended, LOST)
                self._announce(connection, [(other, suspended)], LOST)
                lost.append(suspended)
        return lost

    def _announce(
        self,
        connection: sqlite3.Connection,
        changes: Sequence[Change],
        action: Action,
        *,
        catch_up: bool | None = None,
    ) -> None:
        """Puts the notifications of the changes, and has suspensions logged once they are committed."""
        put_notifications(connection, notifications_of(changes, action))
        for before, after in changes:
            if isinstance(before, Subscription) and isinstance(after, Subscription):
                replays.status_changed(connection, before, after, catch_up=catch_up, keeps=self._keeps)
        if any(after.status is Status.SUSPENDED for _, after in changes):
            self._database.after_commit.append(partial(log_suspensions, changes, action))

    def _release_topics(
        self, connection: sqlite3.Connection, changes: Iterable[tuple[Subscription, Subscription]]
    ) -> None:
        """Releases topics that no subscription of the owner names any more, after its changes were put."""
        for before, after in changes:
            if (topic := topic_to_release(before, after)) is not None:
                topic_claims.release(connection, self._seal, topic, after.owner)

    def _remember(self, subscriptions: Sequence[Subscription]) -> None:
        self._current.remember(subscriptions)
        self.copies.changed(subscriptions)

    def _put_subscription(self, connection: sqlite3.Connection, subscription: Subscription) -> None:
        self.active.outdate(subscription.owner.tenant, subscription.owner.client_id)
        put_subscription(connection, self._seal, subscription)

    def _subscribers(self, connection: sqlite3.Connection, owner: Owner) -> list[Subscriber]:
        rows = connection.execute(
            "SELECT document FROM subscribers WHERE tenant = ? AND client_id = ? AND status <> 'deleted'"
            " ORDER BY id",
            (owner.tenant, owner.client_id),
        )
        return [subscriber_of(orjson.loads(document), self._seal) for (document,) in rows]

    def _subscriber(self, connection: sqlite3.Connection, *, owner: Owner, subscriber_id: str) -> Subscriber:
        row = connection.execute(
            "SELECT document FROM subscribers WHERE id = ? AND tenant = ? AND client_id = ?",
            (subscriber_id, owner.tenant, owner.client_id),
        ).fetchone()
        if row is None:
            raise NotFound(f"subscriber {subscriber_id} is unknown")
        return subscriber_of(orjson.loads(row[0]), self._seal)

    def _subscription(
        self, connection: sqlite3.Connection, *, owner: Owner, subscriber_id: str, subscription_id: str
    ) -> Subscription:
        self._subscriber(connection, owner=owner, subscriber_id=subscriber_id)
        row = connection.execute(
            "SELECT document FROM subscriptions WHERE id = ? AND subscriber_id = ?",
            (subscription_id, subscriber_id),
        ).fetchone()
        if row is None:
            raise NotFound(f"subscription {subscription_id} is unknown")
        return subscription_of(orjson.loads(row[0]), self._seal)

    def _subscriptions(self, connection: sqlite3.Connection, *, subscriber_id: str) -> list[Subscription]:
        rows = connection.execute(
            "SELECT document FROM subscriptions WHERE subscriber_id = ? AND status <> ? ORDER BY no",
            (subscriber_id, Status.DELETED),
        )
        return [subscription_of(orjson.loads(document), self._seal) for (document,) in rows]


def put_subscriber(connection: sqlite3.Connection, seal: Seal, subscriber: Subscriber) -> None:
    """Adds the record, or replaces that of its id, in a job."""
    connection.execute(
        "INSERT INTO subscribers (id, tenant, client_id, status, updated_at, document)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " status = excluded.status, updated_at = excluded.updated_at, document = excluded.document",
        (
            subscriber.id,
            subscriber.owner.tenant,
            subscriber.owner.client_id,
            subscriber.status,
            subscriber.updated_at.timestamp(),
            orjson.dumps(subscriber_document(subscriber, seal)).decode(),
        ),
    )


def put_subscription(connection: sqlite3.Connection, seal: Seal, subscription: Subscription) -> None:
    """Adds the record, or replaces that of its id, in a job."""
    connection.execute(
        "INSERT INTO subscriptions (id, subscriber_id, tenant, status, updated_at, document)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " status = excluded.status, updated_at = excluded.updated_at, document = excluded.document",
        (
            subscription.id,
            subscription.subscriber_id,
            subscription.owner.tenant,
            subscription.status,
            subscription.updated_at.timestamp(),
            orjson.dumps(subscription_document(subscription, seal)).decode(),
        ),
    )


def _log(
    connection: sqlite3.Connection,
    before: Subscriber | Subscription | None,
    after: Subscriber | Subscription,
    action: Action,
) -> None:
    entry = entry_of(before, after, action)
    if entry is not None:
        put_entry(connection, entry)
