"""How a request to Firestore is tried again, and how the connection is made; without a server."""

from typing import Any

import google.auth
import grpc.aio
import pytest
from google.api_core import exceptions, grpc_helpers_async
from google.auth.credentials import AnonymousCredentials

from event_platform.adapters.firestore.client import TRANSIENT, Firestore, connect
from event_platform.domain.errors import Conflict, StoreUnavailable


@pytest.fixture
def firestore() -> Firestore:
    return connect("nobody", emulator="127.0.0.1:1", patience=0.5)


class Failing:
    """A job that raises each of the errors once, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.mark.parametrize("error", TRANSIENT)
async def test_a_transient_failure_is_tried_again(error: type[Exception]) -> None:
    firestore = connect("nobody", emulator="127.0.0.1:1", patience=60)
    job = Failing(error("no"), error("no"))
    assert (await firestore.run(job), job.tries) == ("done", 3)


@pytest.mark.parametrize("error", TRANSIENT)
async def test_a_failure_that_stays_is_that_the_store_is_away(
    firestore: Firestore, error: type[Exception]
) -> None:
    with pytest.raises(StoreUnavailable):
        await firestore.run(Failing(*(error("no") for _ in range(1000))))


async def test_without_patience_there_is_one_try(firestore: Firestore) -> None:
    job = Failing(exceptions.ServiceUnavailable("no"))
    with pytest.raises(StoreUnavailable):
        await firestore.run(job, patience=0)
    assert job.tries == 1


async def test_a_lost_race_is_begun_again_where_there_is_one(firestore: Firestore) -> None:
    job = Failing(exceptions.AlreadyExists("no"))
    assert await firestore.run(job, raced=[exceptions.AlreadyExists]) == "done"
    with pytest.raises(exceptions.AlreadyExists):
        await firestore.run(Failing(exceptions.AlreadyExists("no")))


@pytest.mark.parametrize("error", [Conflict("no"), exceptions.PermissionDenied("no"), ZeroDivisionError()])
async def test_what_trying_again_cannot_help_reaches_the_caller(
    firestore: Firestore, error: Exception
) -> None:
    job = Failing(error)
    with pytest.raises(type(error)):
        await firestore.run(job)
    assert job.tries == 1


async def test_a_connection_that_broke_is_made_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def create_channel(target: str, **options: Any) -> grpc.aio.Channel:
        made.append(options)
        return grpc.aio.insecure_channel("127.0.0.1:1")

    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (AnonymousCredentials(), "some-project"))
    monkeypatch.setattr(grpc_helpers_async, "create_channel", create_channel)
    firestore = connect("some-project", patience=0, attempt=0.1)
    with pytest.raises(StoreUnavailable):
        await firestore.read(firestore.client.document("any/document"))
    await firestore.close()
    (options,) = made
    assert dict(options["options"])["grpc.max_reconnect_backoff_ms"] <= 5000
