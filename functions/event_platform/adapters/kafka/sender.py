"""Records for subscribers' Kafka topics: one producer for each broker and credentials, kept while it is used,
and one deadline around all that it does.
"""

import asyncio
import hashlib
import logging
import secrets
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
from aiokafka import errors
from cachetools import LRUCache
from cryptography.hazmat.primitives import serialization

from ...domain import tls_material
from ...domain.attempts.outcomes import Published, Reason, Refusal, TransportFailure
from ...domain.subscriptions import KafkaConfig, Owner, Sasl, Tls
from ...tracebacks import drop_tracebacks
from ..connections import expiry, failure_of
from ..guard import AddressRefused, GuardedNetwork
from ..resolvers import NameNotResolved
from ..tls import restricted
from .client import NotKafka, Producer, SlowWork

log = structlog.get_logger()
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # names hosts and users; we log what came of it

IDLE_SECONDS = 60.0
MAX_PRODUCERS = 128
"""The producers that are kept in all. Beyond that, the oldest one that nobody uses ends
before its time. Each holds a few sockets."""
KEPT_TLS_CONTEXTS = 500
"""Contexts of TLS that are kept for further connections; each takes some 10 KB and a millisecond to make."""
_THREADS = 2
_REQUEST_MILLISECONDS = 5000
_MAX_RECORD_BYTES = 16 * 1024 * 1024
"""The most bytes of a record: no event has as many. A broker that takes less says so."""

_Key = tuple[Owner, str, Sasl, Tls | None]


class _UnusableTls(ValueError):
    """Raised when a config's certificates and key cannot be used."""


@dataclass(frozen=True, slots=True)
class _Record:
    key: bytes
    headers: Sequence[tuple[str, bytes]]
    body: bytes


@dataclass(slots=True, eq=False)
class _Kept:
    """A producer, and how many attempts use it now."""

    key: _Key
    producer: Producer
    started: asyncio.Task[None]
    expires_at: float
    users: int = 0
    is_retired: bool = False
    is_ending: bool = False
    idle: asyncio.TimerHandle | None = field(default=None, repr=False)


class KafkaSender:
    """The port `RecordSender`. Used in the event loop only.

    A producer that no attempt used for `idle_seconds` is closed, and so is one that is too old, whose brokers
    may have moved. So is one on which a record failed: what it still holds could come late, and what follows
    could be out of sequence.
    """

    def __init__(self, network: GuardedNetwork, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._network = network
        self._idle_seconds = idle_seconds
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka")
        self._slow_work: WeakValueDictionary[Owner, SlowWork] = WeakValueDictionary()
        self._contexts: LRUCache[bytes, ssl.SSLContext] = LRUCache(KEPT_TLS_CONTEXTS)
        self._kept: dict[_Key, _Kept] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def append(
        self,
        config: KafkaConfig,
        key: bytes,
        headers: Sequence[tuple[str, bytes]],
        body: bytes,
        *,
        owner: Owner,
        timeout: float,
    ) -> Published | Refusal | TransportFailure:
        """Port `RecordSender`."""
        deadline = asyncio.get_running_loop().time() + timeout
        record = _Record(key, headers, body)
        try:
            while (result := await self._once(owner, config, record, deadline)) is None:
                pass
        except _UnusableTls as error:
            return TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, str(error))
        return result

    async def _once(
        self, owner: Owner, config: KafkaConfig, record: _Record, deadline: float
    ) -> Published | Refusal | TransportFailure | None:
        """None when the producer was of no use any more: another attempt's event can have done that."""
        kept = self._take(owner, config)
        result: Published | Refusal | TransportFailure | None = None
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(kept.started)
                await kept.producer.send_and_wait(
                    config.topic, record.body, record.key, headers=list(record.headers)
                )
            result = Published()
        except TimeoutError as error:
            drop_tracebacks(error)  # the task that raised it keeps it, and so it would keep this frame
            result = _failure_of(kept.producer.connection_error) or _SILENT
        except _USELESS as error:
            drop_tracebacks(error)
            return None
        except (errors.KafkaError, OSError) as error:
            drop_tracebacks(error)
            result = _failure_of(_cause_of(error, kept.producer)) or _OTHER
        finally:
            self._release(kept, keep=_is_good_after(result))
        return result

    async def close(self) -> None:
        """Ends all producers, within 5 s."""
        for kept in list(self._kept.values()):
            self._retire(kept)
        try:
            if self._ending:
                await asyncio.wait(self._ending)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def producers(self) -> int:
        """The number of producers that are kept."""
        return len(self._kept)

    def _take(self, owner: Owner, config: KafkaConfig) -> _Kept:
        key = (owner, config.broker, config.sasl, config.tls)
        kept = self._kept.get(key)
        now = asyncio.get_running_loop().time()
        if kept is not None and now >= kept.expires_at:
            self._retire(kept)
            kept = None
        if kept is None:
            self._make_room()
            context = self._context_of(config.tls) if config.tls is not None else None
            slow_work = self._slow_work.get(owner)
            if slow_work is None:  # kept by the owner's producers
                slow_work = self._slow_work[owner] = SlowWork(self._executor)
            producer = _producer(config, self._network, slow_work, context)
            started = asyncio.create_task(producer.start())
            started.add_done_callback(_look)
            kept = self._kept[key] = _Kept(key, producer, started, expiry(now))
        if kept.idle is not None:
            kept.idle.cancel()
            kept.idle = None
        kept.users += 1
        return kept

    def _make_room(self) -> None:
        if len(self._kept) >= MAX_PRODUCERS:
            unused = next((kept for kept in self._kept.values() if kept.users == 0), None)
            if unused is not None:
                self._retire(unused)

    def _context_of(self, tls: Tls) -> ssl.SSLContext:
        """Returns the kept context, or makes it. Raises _UnusableTls."""
        key = _digest_of(tls)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _tls_context(tls)
        return context

    def _release(self, kept: _Kept, *, keep: bool) -> None:
        kept.users -= 1
        if not keep:
            self._retire(kept)
        elif kept.is_retired:
            self._end_unused(kept)
        elif kept.users == 0:
            kept.idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._retire, kept)

    def _retire(self, kept: _Kept) -> None:
        """Takes the producer out of use: it gets no new user, and its last one closes it."""
        if self._kept.get(kept.key) is kept:
            del self._kept[kept.key]
        if kept.idle is not None:
            kept.idle.cancel()
        kept.is_retired = True
        self._end_unused(kept)

    def _end_unused(self, kept: _Kept) -> None:
        if kept.users == 0 and not kept.is_ending:
            kept.is_ending = True
            task = asyncio.create_task(_end(kept))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _end(kept: _Kept) -> None:
    kept.started.cancel()
    await asyncio.wait([kept.started])
    await kept.producer.end()


def _look(started: asyncio.Task[None]) -> None:
    """Retrieves the error of a start, so that asyncio does not log it when all who waited have gone."""
    if not started.cancelled():
        started.exception()


def _is_good_after(result: Published | Refusal | TransportFailure | None) -> bool:
    """True if others can go on with the producer: a refused record leaves a gap in its sequence.

    A topic that is not there is found out before.
    """
    missing = isinstance(result, Refusal) and result.reason is Reason.TOPIC_NOT_FOUND
    return isinstance(result, Published) or missing


def _producer(
    config: KafkaConfig, network: GuardedNetwork, slow_work: SlowWork, context: ssl.SSLContext | None
) -> Producer:
    tls = config.tls
    return Producer(
        network,
        tls.server_name if tls is not None else None,
        slow_work,
        bootstrap_servers=config.broker,
        client_id="akeneo-event-platform",
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=_REQUEST_MILLISECONDS,
        max_request_size=_MAX_RECORD_BYTES,
        security_protocol="SASL_PLAINTEXT" if tls is None else "SASL_SSL",
        ssl_context=context,
        sasl_mechanism=config.sasl.mechanism,
        sasl_plain_username=config.sasl.username,
        sasl_plain_password=config.sasl.password.get_secret_value(),
    )


def _digest_of(tls: Tls) -> bytes:
    parts = (tls.ca_pem, tls.client_cert_pem, tls.client_key_pem.get_secret_value())
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _tls_context(tls: Tls) -> ssl.SSLContext:
    """Trusts the config's authorities alone. Raises _UnusableTls.

    The material is checked again: it may have been stored before its bounds were.
    """
    context = restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    once = secrets.token_bytes(32)
    try:
        tls_material.certificates_of(tls.ca_pem, max_characters=tls_material.MAX_CA_CHARACTERS)
        tls_material.check_pair(tls.client_cert_pem, tls.client_key_pem.get_secret_value())
        context.load_verify_locations(cadata=tls.ca_pem)
        key = tls_material.private_key_of(tls.client_key_pem.get_secret_value())
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(once),
        )
        # OpenSSL reads a certificate's chain and key from a file only, so the key is in none as it is.
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder) / "chain.pem"
            chain.write_bytes(tls.client_cert_pem.encode() + b"\n" + sealed)
            context.load_cert_chain(chain, password=once)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise _UnusableTls("the certificates or the key of tls cannot be used") from error
    return context


def _cause_of(error: Exception, producer: Producer) -> Exception:
    """A connection that failed is behind a topic that seems unknown, a leader that is away and the like."""
    behind = producer.connection_error
    is_answer = type(error) in _REFUSALS and not isinstance(error, errors.UnknownTopicOrPartitionError)
    return error if behind is None or is_answer else behind


_USELESS = (errors.OutOfOrderSequenceNumber, errors.ProducerFenced, errors.ProducerClosed)
_SILENT = TransportFailure(Reason.DESTINATION_TIMEOUT, "the broker did not answer in time")
_OTHER = TransportFailure(Reason.DESTINATION_FAILURE, "the broker could not be used")
_TOO_LARGE = Refusal(Reason.PUBLISH_REJECTED, "the event is larger than the topic takes")
_REFUSALS: Mapping[type[BaseException], Refusal] = {
    errors.SaslAuthenticationFailed: Refusal(
        Reason.AUTHENTICATION_FAILED, "the broker refused user or password"
    ),
    errors.UnsupportedSaslMechanismError: Refusal(
        Reason.AUTHENTICATION_FAILED, "the broker does not offer this SASL mechanism"
    ),
    errors.IllegalSaslStateError: Refusal(Reason.AUTHENTICATION_FAILED, "the broker expects no SASL"),
    errors.UnknownTopicOrPartitionError: Refusal(Reason.TOPIC_NOT_FOUND, "there is no such topic"),
    errors.TopicAuthorizationFailedError: Refusal(
        Reason.PUBLISH_REJECTED, "the user may not write to the topic"
    ),
    errors.ClusterAuthorizationFailedError: Refusal(
        Reason.PUBLISH_REJECTED, "the user may not write idempotently"
    ),
    errors.MessageSizeTooLargeError: _TOO_LARGE,
    errors.RecordListTooLargeError: _TOO_LARGE,
    errors.PolicyViolationError: Refusal(Reason.PUBLISH_REJECTED, "against a policy of the cluster"),
    errors.InvalidTopicError: Refusal(
        Reason.INVALID_DESTINATION_CONFIGURATION, "the topic's name is not allowed"
    ),
}
"""The reasons for errors of brokers, by aiokafka's name."""


def _failure_of(error: BaseException | None) -> Refusal | TransportFailure | None:
    """Returns the failure in our own words, as a broker's are a stranger's. Raises what no broker caused."""
    if error is None:
        return None
    if (refusal := _REFUSALS.get(type(error))) is not None:
        return refusal
    match error:
        case AddressRefused():
            return TransportFailure(
                Reason.INVALID_DESTINATION_CONFIGURATION, "a broker has no public address"
            )
        case NameNotResolved():
            return TransportFailure(Reason.DNS_LOOKUP_FAILURE, "a broker's name does not resolve")
        case NotKafka():
            return TransportFailure(Reason.DESTINATION_FAILURE, "what answers does not speak Kafka")
        case TimeoutError() | errors.RequestTimedOutError() | errors.KafkaTimeoutError():
            return TransportFailure(Reason.DESTINATION_TIMEOUT, "a broker did not answer in time")
        case EOFError():
            return TransportFailure(Reason.UNEXPECTED_EOF, "a broker closed the connection")
        case OSError():
            return failure_of(error)
        case errors.KafkaConnectionError():
            return _failure_of(error.__cause__) or TransportFailure(
                Reason.UNEXPECTED_EOF, "a broker closed the connection"
            )
        case _:
            log.info("kafka.failed", error=type(error).__name__)
            return _OTHER
