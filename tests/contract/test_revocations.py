"""Both sides pass the suite of removed clients: in the commit that accepts the event, and in fan-out."""

from dataclasses import dataclass

import pytest

from aep.broker.queue import DurableQueue
from aep.store.logs import SqliteLogs
from contract.suites.revocations import RevocationsContract, RevocationsSide
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.logs import FirestoreLogs
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.domain.events.event import Event
from event_platform.domain.messages.queue_messages import Accepted
from event_platform.fanout.revoking import revoke
from event_platform.ports import Logs, Subscriptions
from support.clock import START, ManualClock
from support.embedded import SEAL, Embedded


@dataclass
class OneMachine:
    logs: Logs
    subscriptions: Subscriptions
    queue: DurableQueue

    async def take(self, tenant: str, event: Event) -> None:
        await self.queue.accept(tenant, [event])


@dataclass
class OnGoogle:
    logs: Logs
    subscriptions: Subscriptions

    async def take(self, tenant: str, event: Event) -> None:
        await revoke(Accepted(tenant, START, [event]), START, records=self.subscriptions)


class TestOnOneMachine(RevocationsContract):
    @pytest.fixture
    async def world(self, embedded: Embedded) -> RevocationsSide:
        return OneMachine(
            SqliteLogs(embedded.database), embedded.subscriptions, (await embedded.open()).queue
        )


class TestOnGoogle(RevocationsContract):
    @pytest.fixture
    async def world(self, firestore: Firestore) -> RevocationsSide:
        clock = ManualClock()
        logs = FirestoreLogs(firestore, clock, seconds=0)
        return OnGoogle(logs, FirestoreSubscriptions(firestore, SEAL, clock))
