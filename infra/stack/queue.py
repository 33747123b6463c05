"""A queue: a topic, what it is pushed to, and where that goes on which our code fails."""

import pulumi
import pulumi_gcp as gcp

from event_platform.domain.faults import FAULTS_AT_MOST, LONGEST_BACKOFF_SECONDS
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC

from .function import CloudFunction
from .part import Part, Project
from .rights import EffectiveRights

WEEK = "604800s"
NEVER = ""
ACK_SECONDS = 60


class DeadLetters(Part):
    """The topic of dead letters, kept for an operator in a subscription that nobody is pushed from."""

    def __init__(self, project: Project, rights: EffectiveRights) -> None:
        super().__init__("DeadLetters", DEAD_LETTERS_TOPIC, project)
        self.topic = gcp.pubsub.Topic(
            DEAD_LETTERS_TOPIC,
            name=DEAD_LETTERS_TOPIC,
            labels=self.settings.labels,
            opts=self.child(holds_data=True),
        )
        gcp.pubsub.Subscription(
            DEAD_LETTERS_TOPIC,
            name=DEAD_LETTERS_TOPIC,
            topic=self.topic.id,
            ack_deadline_seconds=ACK_SECONDS,
            message_retention_duration=WEEK,
            expiration_policy={"ttl": NEVER},
            labels=self.settings.labels,
            opts=self.child(holds_data=True),
        )
        self.may_be_written = gcp.pubsub.TopicIAMMember(
            f"{DEAD_LETTERS_TOPIC}-pubsub",
            topic=self.topic.name,
            role="roles/pubsub.publisher",
            member=project.pubsub.member,
            opts=self.child(rights.reached),
        )
        self.register_outputs({})


class Queue(Part):
    """A topic whose messages are pushed to a function, as its only caller, until they are acknowledged.

    `ordered`: one message of an ordering key at a time. For `kept` seconds the topic keeps messages that were
    acknowledged, too.
    """

    def __init__(
        self,
        name: str,
        project: Project,
        *,
        function: CloudFunction,
        path: str,
        dead_letters: DeadLetters,
        ordered: bool = False,
        kept: int = 0,
    ) -> None:
        super().__init__("Queue", name, project)
        assert function.caller is not None  # noqa: S101 - what is pushed to is never public
        self.topic = gcp.pubsub.Topic(
            name,
            name=name,
            message_retention_duration=f"{kept}s" if kept else None,
            labels=self.settings.labels,
            opts=self.child(holds_data=True),
        )
        subscription = gcp.pubsub.Subscription(
            name,
            name=name,
            topic=self.topic.id,
            push_config={
                "push_endpoint": pulumi.Output.concat(function.url, path),
                "oidc_token": {
                    "service_account_email": function.caller.email,
                    "audience": function.url,
                },
            },
            enable_message_ordering=ordered,
            ack_deadline_seconds=ACK_SECONDS,
            retry_policy={"minimum_backoff": "1s", "maximum_backoff": f"{LONGEST_BACKOFF_SECONDS:.0f}s"},
            dead_letter_policy={
                "dead_letter_topic": dead_letters.topic.id,
                "max_delivery_attempts": FAULTS_AT_MOST,
            },
            message_retention_duration=WEEK,
            expiration_policy={"ttl": NEVER},
            labels=self.settings.labels,
            opts=self.child(*function.may_call, dead_letters.may_be_written, holds_data=True),
        )
        gcp.pubsub.SubscriptionIAMMember(
            f"{name}-pubsub",
            subscription=subscription.name,
            role="roles/pubsub.subscriber",  # Pub/Sub acknowledges what it made a dead letter
            member=project.pubsub.member,
            opts=self.child(),
        )
        self.register_outputs({})

    def may_be_written_by(self, name: str, member: str) -> None:
        """Lets an account outside the platform publish here."""
        gcp.pubsub.TopicIAMMember(
            name,
            topic=self.topic.name,
            role="roles/pubsub.publisher",
            member=member,
            opts=self.child(),
        )
