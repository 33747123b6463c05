"""The connection to Firestore: how long a request is tried, and what its failure becomes."""

import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc.aio
from google.api_core import exceptions
from google.api_core.retry import exponential_sleep_generator, if_exception_type, retry_target_async
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import AsyncClient, AsyncDocumentReference, AsyncQuery, AsyncWriteBatch
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient, async_client
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport
from google.cloud.firestore_v1.types import WriteResult

from ...domain.errors import StoreUnavailable

T = TypeVar("T")

TRANSIENT = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.ResourceExhausted,
    exceptions.Aborted,  # what another write was in the way of
    exceptions.InternalServerError,
    exceptions.Unknown,
)
"""Errors of Firestore after which a repetition can succeed. Of all but Aborted and ResourceExhausted the
write may have happened all the same."""

ALREADY_EXISTS = exceptions.AlreadyExists
PRECONDITION_FAILED = exceptions.FailedPrecondition
MISSING = exceptions.NotFound
REFUSED = exceptions.InvalidArgument
"""The error of a request that no repetition helps, such as a document that would be larger than 1 MiB."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between two tries, with full jitter
_BATCH = 500

_Options: TypeAlias = Sequence[tuple[str, int]]

# gRPC's own longest wait, two minutes, would go on long after Firestore is back.
_RECONNECT: _Options = (
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_ANY_SIZE: _Options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


class _GrpcAsyncIOTransport(FirestoreGrpcAsyncIOTransport):
    @classmethod
    def create_channel(cls, *args: Any, options: _Options = (), **kwargs: Any) -> grpc.aio.Channel:
        return super().create_channel(*args, options=[*options, *_RECONNECT], **kwargs)


class Client(AsyncClient):
    """An AsyncClient that reconnects soon, can be closed, and finds an emulator by an argument."""

    def __init__(self, project: str | None, database: str, emulator: str | None) -> None:
        credentials = AnonymousCredentials() if emulator else None
        super().__init__(project=project, credentials=credentials, database=database)
        self._emulator_host = emulator or os.environ.get("FIRESTORE_EMULATOR_HOST")

    @property
    def _firestore_api(self) -> FirestoreAsyncClient:
        return self._firestore_api_helper(_GrpcAsyncIOTransport, FirestoreAsyncClient, async_client)

    def _emulator_channel(self, transport: object) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._target, options=[*_ANY_SIZE, *_RECONNECT])

    async def aclose(self) -> None:
        """The base class's `close` knows nothing of connections that are awaited."""
        await self._firestore_api.transport.close()


def document_id(name: str) -> str:
    """The name itself, or a hash of one that Firestore could refuse, such as `..`, `a/b` or `__x__`.

    Ids of records are plain, so no record stands under a hash: such a name is read as unknown.
    https://firebase.google.com/docs/firestore/quotas
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    return "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Firestore:
    """A client, and its patience.

    `patience` is for how many seconds an operation is tried again, `attempt` how long one request may take.
    """

    client: Client
    patience: float = 20.0
    attempt: float = 5.0

    def document(self, collection: str, name: str) -> AsyncDocumentReference:
        """The document of a record whose id others may choose."""
        return self.client.collection(collection).document(document_id(name))

    async def run(
        self,
        job: Callable[[], Awaitable[T]],
        *,
        raced: Sequence[type[Exception]] = (),
        patience: float | None = None,
    ) -> T:
        """Returns what `job` returns; it is begun again after a transient failure, or one of `raced`.

        Raises StoreUnavailable when that does not help; whatever else `job` raises reaches the caller.
        """
        try:
            return await retry_target_async(
                job,
                if_exception_type(*TRANSIENT, *raced),
                exponential_sleep_generator(_FIRST_WAIT, _LONGEST_WAIT),
                timeout=self.patience if patience is None else patience,
            )
        except exceptions.RetryError as error:
            raise StoreUnavailable("Firestore does not answer as it should; try it again") from error

    async def get(
        self, reference: AsyncDocumentReference, *, attempt: float | None = None
    ) -> DocumentSnapshot:
        """One try, for a job."""
        return await reference.get(retry=None, timeout=attempt or self.attempt)

    async def find(self, query: AsyncQuery) -> Sequence[DocumentSnapshot]:
        """One try, for a job."""
        return await query.get(retry=None, timeout=self.attempt)

    async def commit(self, batch: AsyncWriteBatch) -> Sequence[WriteResult]:
        """One try, for a job: all writes of the batch or none."""
        return await batch.commit(retry=None, timeout=self.attempt)

    async def read(
        self,
        reference: AsyncDocumentReference,
        *,
        patience: float | None = None,
        attempt: float | None = None,
    ) -> DocumentSnapshot:
        """The snapshot. Raises StoreUnavailable."""
        return await self.run(lambda: self.get(reference, attempt=attempt), patience=patience)

    async def query(self, query: AsyncQuery, *, patience: float | None = None) -> Sequence[DocumentSnapshot]:
        """The snapshots of all that match. Raises StoreUnavailable."""
        return await self.run(lambda: self.find(query), patience=patience)

    async def set(self, reference: AsyncDocumentReference, fields: dict[str, Any], *, merge: bool) -> None:
        """Durable when it returns. Raises StoreUnavailable."""
        await self.run(lambda: reference.set(fields, merge=merge, retry=None, timeout=self.attempt))

    async def delete(self, references: Sequence[AsyncDocumentReference]) -> None:
        """Deletes the documents; those that are gone already are no error. Raises StoreUnavailable."""
        for start in range(0, len(references), _BATCH):
            await self.run(lambda part=references[start : start + _BATCH]: self._delete(part))

    async def _delete(self, references: Sequence[AsyncDocumentReference]) -> None:
        batch = self.client.batch()
        for reference in references:
            batch.delete(reference)
        await self.commit(batch)

    async def close(self) -> None:
        await self.client.aclose()


def address() -> str:
    """`host:port` of Firestore, or of the emulator that the environment names."""
    return os.environ.get("FIRESTORE_EMULATOR_HOST") or "firestore.googleapis.com:443"


def connect(
    project: str | None = None,
    *,
    database: str = "(default)",
    emulator: str | None = None,
    patience: float = 20.0,
    attempt: float = 5.0,
) -> Firestore:
    """The database of a project (None: that of the environment), or `host:port` of an emulator.

    A Firestore belongs to the event loop that first used it.
    """
    return Firestore(Client(project, database, emulator), patience, attempt)
