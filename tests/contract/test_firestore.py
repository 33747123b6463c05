"""The store on Google Cloud passes the suites of the ports, on Google's emulator."""

from collections.abc import AsyncIterator

import pytest

from clock import ManualClock
from contract.subscriptions import Store, SubscriptionsContract
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.seal import AesGcmSeal

SEAL = AesGcmSeal(b"\x01" * 32)


@pytest.fixture
async def firestore(firestore_host: str, project: str) -> AsyncIterator[Firestore]:
    firestore = connect(project, emulator=firestore_host)
    yield firestore
    await firestore.close()


class TestFirestoreSubscriptions(SubscriptionsContract):
    @pytest.fixture
    def store(self, firestore: Firestore) -> Store:
        return FirestoreSubscriptions(firestore, SEAL, ManualClock())
