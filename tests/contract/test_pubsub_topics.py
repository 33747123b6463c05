"""Publishing to subscribers' Pub/Sub topics (contract/wire.md 10b, 13): on Google's emulator, and against a
server that answers as Google does where the emulator cannot."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from pydantic import SecretStr

from event_platform.adapters.pubsub import topics as pubsub_topics
from event_platform.adapters.pubsub.publisher import EMULATOR_HOST, publisher_client
from event_platform.adapters.pubsub.topics import (
    CREDENTIALS_FILE,
    PubSubTopics,
    rules_on_google,
    rules_on_one_machine,
)
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.attempts.outcomes import (
    Kind,
    Published,
    Reason,
    Refusal,
    TransportFailure,
    classify,
)
from event_platform.domain.errors import DestinationsNotSetUp
from event_platform.domain.subscriptions import PubSubConfig
from event_platform.domain.topic_claims import PROOF_LABEL
from support.pubsub_project import Project

CONFIG = PubSubConfig("their-project", "pim-events", {"X-Stage": SecretStr("production")})
ATTRIBUTES = {"type": "com.akeneo.pim.v1.product.updated", "X-Stage": "production"}
TIMEOUT = 5.0
ACCOUNT = "aep-destinations@our-project.iam.gserviceaccount.com"


@dataclass
class Google:
    """Answers each call with a status of gRPC; None: not at all."""

    code: grpc.StatusCode | None
    details: str = ""
    tokens: list[str] = field(default_factory=list[str])

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        if self.code is None:
            await asyncio.Event().wait()
        assert self.code is not None
        if self.code is not grpc.StatusCode.OK:
            await context.abort(self.code, self.details)
        return b""


@asynccontextmanager
async def google(code: grpc.StatusCode | None, details: str = "") -> AsyncIterator[PubSubTopics]:
    """A sender whose client speaks to a server that answers so."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(Google(code, details).answer)
    service = grpc.method_handlers_generic_handler(
        "google.pubsub.v1.Publisher", {"Publish": handler, "GetTopic": handler}
    )
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = publisher_client({EMULATOR_HOST: f"127.0.0.1:{port}"})
    topics = PubSubTopics(TopicRules("our-project"), client=client)
    try:
        yield topics
    finally:
        await topics.close()
        await server.stop(None)


async def published(topics: PubSubTopics, config: PubSubConfig = CONFIG, *, timeout: float = TIMEOUT) -> Any:
    return await topics.publish(config, ATTRIBUTES, b'{"a":"\xc3\xa9"}', timeout=timeout)


# --- on the emulator -----------------------------------------------------------------------------------


@pytest.fixture
async def project(pubsub_host: str) -> AsyncIterator[Project]:
    project = Project(pubsub_host, f"test-{uuid.uuid4().hex[:20]}")
    await project.create_topic(CONFIG.topic_id)
    yield project
    await project.close()


async def test_bytes_and_attributes_arrive_as_they_were(
    project: Project, pubsub_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EMULATOR_HOST, pubsub_host)
    topics = PubSubTopics(rules_on_google("our-project", ACCOUNT))
    assert await published(topics, PubSubConfig(project.name, CONFIG.topic_id)) == Published()
    (message,) = await project.pull(CONFIG.topic_id, 1)
    assert (message.data, dict(message.attributes)) == (b'{"a":"\xc3\xa9"}', ATTRIBUTES)
    assert message.ordering_key == ""
    result = await published(topics, PubSubConfig(project.name, "there-is-none"))
    assert result == Refusal(Reason.TOPIC_NOT_FOUND, "there is no such topic")
    await topics.close()


async def test_a_label_is_read_as_its_owner_wrote_it(
    project: Project, pubsub_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EMULATOR_HOST, pubsub_host)
    labels = {PROOF_LABEL: "0199c1a4-5d3e-7a1b-9c2d-3e4f5a6b7c8d", "stage": "production"}
    await project.create_topic("labelled", labels=labels)
    topics = PubSubTopics(rules_on_google("our-project", ACCOUNT))
    assert await topics.label(project.name, "labelled", PROOF_LABEL) == labels[PROOF_LABEL]
    assert await topics.label(project.name, CONFIG.topic_id, PROOF_LABEL) is None
    assert await topics.label(project.name, "there-is-none", PROOF_LABEL) is None
    await topics.close()


# --- what Google answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "details", "reason", "kind"),
    [
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "User not authorized to perform this action.",
            Reason.PUBLISH_REJECTED,
            Kind.SUSPENDING,
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            "Resource not found (resource=pim-events).",
            Reason.TOPIC_NOT_FOUND,
            Kind.SUSPENDING,
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            "Requested project not found or user does not have access to it (project=their-project).",
            Reason.DESTINATION_NOT_FOUND,
            Kind.SUSPENDING,
        ),
        (grpc.StatusCode.INVALID_ARGUMENT, "against the schema", Reason.PUBLISH_REJECTED, Kind.RETRYABLE),
        (grpc.StatusCode.FAILED_PRECONDITION, "a policy", Reason.PUBLISH_REJECTED, Kind.RETRYABLE),
        (grpc.StatusCode.UNAUTHENTICATED, "no token", Reason.AUTHENTICATION_FAILED, Kind.RETRYABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", Reason.DESTINATION_FAILURE, Kind.RETRYABLE),
        (grpc.StatusCode.INTERNAL, "a fault", Reason.DESTINATION_FAILURE, Kind.RETRYABLE),
        (grpc.StatusCode.UNAVAILABLE, "away", Reason.DESTINATION_FAILURE, Kind.RETRYABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "late", Reason.DESTINATION_TIMEOUT, Kind.RETRYABLE),
    ],
)
async def test_each_answer_has_its_reason_and_what_follows(
    code: grpc.StatusCode, details: str, reason: Reason, kind: Kind
) -> None:
    async with google(code, details) as topics:
        result = await published(topics)
    outcome = classify(result)
    assert (outcome.reason, outcome.kind) == (reason, kind)
    assert details not in result.detail  # words of ours


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_allowed() -> None:
    async with google(None) as topics:
        async with asyncio.timeout(2):
            result = await published(topics, timeout=0.3)
    assert isinstance(result, TransportFailure)
    assert result.reason is Reason.DESTINATION_TIMEOUT


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, None],
)
async def test_a_label_that_cannot_be_read_is_none(
    code: grpc.StatusCode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub_topics, "LABEL_SECONDS", 0.3)
    async with google(code) as topics, asyncio.timeout(2):
        assert await topics.label("their-project", "pim-events", PROOF_LABEL) is None


async def test_our_own_project_is_refused_again_at_delivery() -> None:
    async with google(grpc.StatusCode.OK) as topics:
        assert await published(topics) == Published()
        for project in ("our-project", "123456789012"):  # ours has a number too, which nobody told us
            result = await published(topics, PubSubConfig(project, "deliveries-0"))
            assert isinstance(result, TransportFailure)
            assert result.reason is Reason.INVALID_DESTINATION_CONFIGURATION


# --- who publishes -------------------------------------------------------------------------------------


class Tokens(Credentials):
    """Google's credentials: a token after a refresh, unless that fails."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.refreshed = 0
        self._error = error

    def refresh(self, request: Any) -> None:
        self.refreshed += 1
        if self._error is not None:
            raise self._error
        self.token = "a token"


async def test_a_token_is_fetched_once_for_the_account_that_is_set() -> None:
    asked: list[str | None] = []
    tokens = Tokens()

    def credentials(account: str | None) -> Credentials:
        asked.append(account)
        return tokens

    topics = PubSubTopics(TopicRules("our-project", account=ACCOUNT), credentials=credentials)
    await asyncio.gather(*(topics._opened() for _ in range(3)))
    assert (asked, tokens.refreshed) == ([ACCOUNT], 1)
    await topics.close()


async def test_a_token_that_cannot_be_had_is_our_fault_and_no_answer() -> None:
    def none_found(account: str | None) -> Credentials:
        raise DefaultCredentialsError("not found")

    makers: Sequence[Any] = (none_found, lambda account: Tokens(RefreshError("not allowed to act for it")))
    for credentials in makers:
        topics = PubSubTopics(TopicRules("our-project", account=ACCOUNT), credentials=credentials)
        with pytest.raises(DestinationsNotSetUp):
            await published(topics)
        await topics.close()


async def test_without_a_setup_nothing_is_published() -> None:
    topics = PubSubTopics(rules_on_google("our-project", None, {}))
    with pytest.raises(DestinationsNotSetUp, match="AEP_DESTINATION_ACCOUNT"):
        await published(topics)
    assert await topics.label("their-project", "pim-events", PROOF_LABEL) is None


def test_what_has_to_be_set_up_first() -> None:
    assert rules_on_google("our-project", ACCOUNT, {}) == TopicRules("our-project", account=ACCOUNT)
    assert rules_on_google("our-project", None, {EMULATOR_HOST: "localhost:1"}).missing is None
    assert rules_on_one_machine(None, {CREDENTIALS_FILE: "key.json"}) == TopicRules()
    assert rules_on_one_machine(ACCOUNT, {EMULATOR_HOST: "localhost:1"}) == TopicRules(account=ACCOUNT)
    assert CREDENTIALS_FILE in (rules_on_one_machine(None, {}).missing or "")
