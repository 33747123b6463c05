"""Publishing to subscribers' Pub/Sub topics, as an account that has no right in our own project: the ports
`TopicSender` and `TopicLabels`.

https://cloud.google.com/pubsub/docs/reference/error-codes and .../docs/authentication
"""

import asyncio
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from ...domain.attempts.broker_messages import TopicRules
from ...domain.attempts.outcomes import Published, Reason, Refusal, TransportFailure
from ...domain.errors import DestinationsNotSetUp
from ...domain.subscriptions import PubSubConfig
from ...first_use import FirstUse
from .publisher import EMULATOR_HOST, PublishClient, load_client, publisher_client

if TYPE_CHECKING:  # costs 0.4 s, so it is imported by the first publish
    from google.auth.credentials import Credentials

log = structlog.get_logger()

CREDENTIALS_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_EVERYTHING = "https://www.googleapis.com/auth/cloud-platform"
_PUBSUB = "https://www.googleapis.com/auth/pubsub"
LABEL_SECONDS = 5.0
_NOT_SET_UP = "'pubsub' is not set up on this platform; its operator has to"


def rules_on_google(project: str, account: str | None, environ: Mapping[str, str] = os.environ) -> TopicRules:
    """Returns the rules for the platform in `project`, which publishes as `account`."""
    is_set_up = account is not None or environ.get(EMULATOR_HOST)
    missing = None if is_set_up else f"{_NOT_SET_UP} set AEP_DESTINATION_ACCOUNT"
    return TopicRules(project, missing, account)


def rules_on_one_machine(account: str | None, environ: Mapping[str, str] = os.environ) -> TopicRules:
    """Returns the rules for a platform that has no queues at Google."""
    missing = None
    if not _is_installed("google.pubsub_v1"):
        missing = f"{_NOT_SET_UP} install the platform's wheel with its extra packages `pubsub`"
    elif not environ.get(CREDENTIALS_FILE) and not environ.get(EMULATOR_HOST):
        missing = f"{_NOT_SET_UP} set {CREDENTIALS_FILE}"
    return TopicRules(missing=missing, account=account)


class TopicClient(PublishClient, Protocol):
    """The methods that we use of `google.pubsub_v1.PublisherAsyncClient`."""

    async def get_topic(self, *, topic: str, retry: Any, timeout: float) -> Any: ...


class PubSubTopics:
    """Publishes as the account that the rules name, or without one as what Google's credentials are."""

    def __init__(
        self,
        rules: TopicRules,
        *,
        client: TopicClient | None = None,
        credentials: "Callable[[str | None], Credentials]" = lambda account: credentials_of(account),
    ) -> None:
        """Makes the topics.

        Without `client`, one is made in the running event loop when it is first needed.
        """
        self._rules = rules
        self._client = client
        self._make_credentials = credentials
        self._credentials: Credentials | None = None
        self._opening = asyncio.Lock()

    async def publish(
        self, config: PubSubConfig, attributes: Mapping[str, str], body: bytes, *, timeout: float
    ) -> Published | Refusal | TransportFailure:
        """Port `TopicSender`."""
        if self._rules.missing is not None:
            raise DestinationsNotSetUp(self._rules.missing)
        try:
            self._rules.check(config.project_id)
        except ValueError as error:
            return TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, f"the project {error}")
        await _LIBRARIES.ready()
        from google.api_core.exceptions import GoogleAPICallError

        try:
            async with asyncio.timeout(timeout):
                client = await self._opened()
                await client.publish(_request(config, attributes, body), retry=None, timeout=timeout)
        except TimeoutError:
            return TransportFailure(Reason.DESTINATION_TIMEOUT, f"no answer within {timeout:g} s")
        except GoogleAPICallError as error:
            return _failure_of(error)
        return Published()

    async def label(self, project_id: str, topic_id: str, name: str) -> str | None:
        """Port `TopicLabels`: within LABEL_SECONDS."""
        if self._rules.missing is not None:
            return None
        await _LIBRARIES.ready()
        from google.api_core.exceptions import GoogleAPICallError

        topic = PubSubConfig(project_id, topic_id).destination
        try:
            async with asyncio.timeout(LABEL_SECONDS):
                client = await self._opened()
                found = await client.get_topic(topic=topic, retry=None, timeout=LABEL_SECONDS)
        except (GoogleAPICallError, DestinationsNotSetUp, TimeoutError) as error:
            log.info("topic.label_not_read", topic=topic, error=type(error).__name__)
            return None
        return found.labels.get(name)

    async def close(self) -> None:
        """Ends the client's connections."""
        transport = getattr(self._client, "transport", None)
        if transport is not None:
            await transport.close()

    async def _opened(self) -> TopicClient:
        """A client whose token is good: a token that we cannot get is no fault of the topic's."""
        if self._client is None or not (self._credentials is None or self._credentials.valid):
            async with self._opening:
                if self._client is None:
                    self._client = await self._made()
                if self._credentials is not None and not self._credentials.valid:
                    await _refreshed(self._credentials)
        return self._client

    async def _made(self) -> TopicClient:
        from google.auth.exceptions import GoogleAuthError

        if os.environ.get(EMULATOR_HOST):
            return publisher_client()
        try:
            self._credentials = await asyncio.to_thread(self._make_credentials, self._rules.account)
        except GoogleAuthError as error:
            raise DestinationsNotSetUp(
                "no credentials of Google's were found: set them up where this runs"
            ) from error
        return publisher_client(credentials=self._credentials)


def _load() -> None:
    import google.auth.impersonated_credentials
    import google.auth.transport.requests  # noqa: F401 - their import is what is wanted

    load_client()


_LIBRARIES = FirstUse(_load)


def credentials_of(account: str | None) -> "Credentials":
    """Google's default credentials, or those of an account that they may act for.

    Reads files and may ask Google. Raises GoogleAuthError.
    """
    import google.auth
    from google.auth import impersonated_credentials

    source: Any
    source, _ = google.auth.default(scopes=[_EVERYTHING if account is not None else _PUBSUB])
    if account is None:
        return source
    return impersonated_credentials.Credentials(
        source_credentials=source, target_principal=account, target_scopes=[_PUBSUB]
    )


async def _refreshed(credentials: "Credentials") -> None:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        await asyncio.to_thread(credentials.refresh, Request())
    except GoogleAuthError as error:
        raise DestinationsNotSetUp(
            "Google gave no token to publish with: look at the rights of the account"
        ) from error


def _request(config: PubSubConfig, attributes: Mapping[str, str], body: bytes) -> Any:
    from google.pubsub_v1 import PublishRequest

    request = PublishRequest(topic=config.destination)
    raw: Any = PublishRequest.pb(request)
    raw.messages.add(data=body, attributes=dict(attributes))
    return request


def _failure_of(error: Exception) -> Refusal | TransportFailure:
    """Returns the refusal in our own words. Only Pub/Sub's message says if topic or project is NOT_FOUND."""
    from google.api_core import exceptions

    match error:
        case exceptions.NotFound() if "project not found" in str(error).lower():
            return Refusal(Reason.DESTINATION_NOT_FOUND, "there is no such project")
        case exceptions.NotFound():
            return Refusal(Reason.TOPIC_NOT_FOUND, "there is no such topic")
        case exceptions.PermissionDenied():
            detail = "the platform's account may not publish to the topic"
            return Refusal(Reason.PUBLISH_REJECTED, detail, forbidden=True)
        case exceptions.Unauthenticated():
            return Refusal(Reason.AUTHENTICATION_FAILED, "Pub/Sub does not take our token")
        case exceptions.InvalidArgument() | exceptions.FailedPrecondition():
            return Refusal(Reason.PUBLISH_REJECTED, "Pub/Sub refuses the event")
        case exceptions.DeadlineExceeded():
            return TransportFailure(Reason.DESTINATION_TIMEOUT, "Pub/Sub did not answer in time")
        case exceptions.ServiceUnavailable():
            return TransportFailure(Reason.DESTINATION_FAILURE, "Pub/Sub cannot be reached")
        case _:
            return Refusal(Reason.DESTINATION_FAILURE, "Pub/Sub failed")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False
