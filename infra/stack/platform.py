"""The event platform on Google Cloud, as one description: what there is and who may call whom."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_gcp as gcp

from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
)
from event_platform.fanout.routes import EVENTS_PATH, PIM_EVENTS_PATH
from event_platform.notify.routes import PATH as NOTIFICATIONS_PATH
from event_platform.permissions import DELIVERIES_TOPICS, topics_of
from event_platform.wiring import SETTINGS

from .egress import Egress
from .environment import PIMS_WITHOUT_SECRETS, read_by
from .front_door import FrontDoor
from .function import CloudFunction, Identity
from .observability import Observability
from .project import project_of
from .queue import DeadLetters, Queue
from .rights import EffectiveRights
from .schedule import Schedule
from .sealed import Sealed
from .settings import DeploymentSettings
from .sizes import sizes_of
from .source import Source
from .store import Store

PUBLIC_ADDRESSES = "1.1.1.1:443,9.9.9.9:443"
"""Well-known ones, of Cloudflare and of Quad9, that show whether an instance has a way out."""
CALLS_OUT = frozenset({"manage", "deliver", "notify"})
"""The functions that speak to others than Google: to PIMs, receivers, a mail server."""


class Platform:
    """Everything that a stack creates."""

    def __init__(self, settings: DeploymentSettings) -> None:
        self.settings = settings
        self.project = project_of(settings)
        self.source = Source(self.project)
        self.store = Store(self.project)
        self.egress = Egress(self.project) if settings.static_egress else None
        self.secrets = self._secrets()
        self.pims_without_secrets = self._pims_without_secrets()
        self.destinations = self._account_for_destinations()
        self.sizes = sizes_of(settings)
        self.identities = {name: self._identity(name) for name in SETTINGS}
        self.rights = self._rights()

        self.manage = self._function("manage", public=True)
        self.ingest = self._function("ingest", public=True)
        self.fanout = self._function("fanout")
        self.deliver = self._function("deliver")
        self.maintain = self._function("maintain")
        self.notify = self._function("notify")

        self.dead_letters = DeadLetters(self.project, self.rights)
        self.events = self._queue(EVENTS_TOPIC, self.fanout, EVENTS_PATH, kept=settings.keep)
        self.pim_events = self._queues_of_pims()
        self.deliveries = [
            self._queue(name, self.deliver, f"/{name}", ordered=True)
            for name in (f"{DELIVERIES_TOPICS}-{n}" for n in range(settings.topics_of_deliveries))
        ]
        self.notifications = self._queue(NOTIFICATIONS_TOPIC, self.notify, NOTIFICATIONS_PATH)
        self._let_functions_publish()

        self._let_functions_act_for_destinations()
        self._let_maintain_act_as_the_pusher()
        self.schedule = Schedule(self.project, self.maintain, self.store)
        self.front_door = self._front_door()
        self.observability = Observability(self.project)

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The outputs of the stack."""
        return {
            "managementUrl": self.public_url,
            "ingestUrl": self._ingest_url(),
            "destinationAccount": self.destinations.email,
            "egressAddresses": [self.egress.address] if self.egress else [],
            "domainAddress": self.front_door.address if self.front_door else None,
            "project": self.settings.project,
            "region": self.settings.region,
            "archive": self.source.archive.name,
            "functions": {function.function_name: function.url for function in self.functions},
            "nextSteps": self._next_steps(),
        }

    @property
    def functions(self) -> Sequence[CloudFunction]:
        """All six."""
        return (self.manage, self.ingest, self.fanout, self.deliver, self.maintain, self.notify)

    @property
    def public_url(self) -> pulumi.Input[str]:
        """The URL at which apps find the management API and the schemas."""
        return f"https://{self.settings.domain}" if self.settings.domain else self.manage.url

    def _secrets(self) -> Mapping[str, Sealed]:
        values = {
            "AEP_SECRETS_KEY": self.settings.secrets_key,
            "AEP_REGISTRY_KEY": self.settings.registry_key,
            "AEP_FEED_KEY": self.settings.feed_key,
            "AEP_PIMS": self.settings.pims,
            "AEP_SMTP_URL": self.settings.smtp_url,
        }
        return {
            variable: Sealed(variable, value.get_secret_value(), self.project)
            for variable, value in values.items()
            if value is not None
        }

    def _pims_without_secrets(self) -> Mapping[str, Sealed]:
        value = self.settings.pims_without_secrets
        if value is None:
            return {}
        return {"AEP_PIMS": Sealed("AEP_PIMS", value, self.project, name=PIMS_WITHOUT_SECRETS)}

    def _identity(self, name: str) -> Identity:
        return Identity(name, self.project, secrets=list(read_by(name, self._secrets_of(name)).values()))

    def _rights(self) -> EffectiveRights:
        granted = [right for identity in self.identities.values() for right in identity.rights]
        return EffectiveRights(
            self.project, self.source.bucket, [*self.source.builds, self.project.pubsub, *granted]
        )

    def _function(self, name: str, *, public: bool = False) -> CloudFunction:
        asks_pims = name == "maintain" and self.settings.feed_key is not None
        egress = self.egress if name in CALLS_OUT or asks_pims else None
        values: dict[str, pulumi.Input[str]] = {
            "GOOGLE_CLOUD_PROJECT": self.settings.project,
            "AEP_ARCHIVE": self.source.archive.name,
            "AEP_DELIVERIES_SHARDS": str(self.settings.deliveries_shards),
            "AEP_DESTINATION_ACCOUNT": self.destinations.email,
            **({"AEP_FEEDS": "true"} if self.settings.feed_key is not None else {}),
            **({"AEP_MAIL_FROM": self.settings.mail_from} if self.settings.mail_from else {}),
            # The load balancer appends the client's address and its own to X-Forwarded-For.
            **({"AEP_TRUSTED_PROXIES": "2"} if self.settings.domain else {}),
            **({"AEP_AWAIT_NETWORK": PUBLIC_ADDRESSES} if egress else {}),
            **self._url_of_manage(name),
            **self._pushes_of_replays(name),
            **self.settings.settings,
        }
        return CloudFunction(
            self.identities[name],
            self.sizes[name],
            source=self.source,
            rights=self.rights,
            environment=read_by(name, values),
            public=public,
            egress=egress,
        )

    def _secrets_of(self, name: str) -> Mapping[str, Sealed]:
        """Returns the secrets by variable; the list of PIMs has their secrets for ingest alone."""
        return self.secrets if name == "ingest" else {**self.secrets, **self.pims_without_secrets}

    def _url_of_manage(self, name: str) -> Mapping[str, pulumi.Input[str]]:
        """Returns the URL of manage. Without a domain manage itself knows it only from its requests."""
        return {} if name == "manage" and not self.settings.domain else {"AEP_PUBLIC_URL": self.public_url}

    def _pushes_of_replays(self, name: str) -> Mapping[str, pulumi.Input[str]]:
        """Returns where maintain has replays pushed to, and as whom.

        Also where no events are kept any more: a replay that ran has to be ended.
        """
        if name != "maintain" or self.fanout.caller is None:
            return {}
        return {"AEP_FANOUT_URL": self.fanout.url, "AEP_FANOUT_CALLER": self.fanout.caller.email}

    def _let_maintain_act_as_the_pusher(self) -> None:
        """Google asks for this of who makes a push subscription that proves who calls."""
        if self.fanout.caller is None:
            return
        gcp.serviceaccount.IAMMember(
            "maintain-acts-as-caller-of-fanout",
            service_account_id=self.fanout.caller.name,
            role="roles/iam.serviceAccountUser",
            member=self.maintain.account.member,
        )
        gcp.projects.IAMMember(
            "pubsub-acknowledges-dead-letters-of-replays",  # whose push subscriptions nobody knows before
            project=self.settings.project,
            role="roles/pubsub.subscriber",
            member=self.project.pubsub.member,
            opts=pulumi.ResourceOptions(depends_on=[self.rights.reached]),  # the account is a new one
        )

    def _queue(
        self, name: str, function: CloudFunction, path: str, *, ordered: bool = False, kept: int = 0
    ) -> Queue:
        return Queue(
            name,
            self.project,
            function=function,
            path=path,
            dead_letters=self.dead_letters,
            ordered=ordered,
            kept=kept,
        )

    def _queues_of_pims(self) -> Sequence[Queue]:
        queues: list[Queue] = []
        for topic in self.settings.pim_topics:
            name = f"pim-events-{topic.key}"
            queue = self._queue(
                name, self.fanout, PIM_EVENTS_PATH.format(key=topic.key), kept=self.settings.keep
            )
            queue.may_be_written_by(f"{name}-pim", topic.publisher)
            queues.append(queue)
        return queues

    def _let_functions_publish(self) -> None:
        topics = {
            EVENTS_TOPIC: {EVENTS_TOPIC: self.events.topic},
            DELIVERIES_TOPICS: {
                f"{DELIVERIES_TOPICS}-{n}": queue.topic for n, queue in enumerate(self.deliveries)
            },
            NOTIFICATIONS_TOPIC: {NOTIFICATIONS_TOPIC: self.notifications.topic},
            DEAD_LETTERS_TOPIC: {DEAD_LETTERS_TOPIC: self.dead_letters.topic},
        }
        for function in self.functions:
            feeds = self.settings.feed_key is not None
            for written in sorted(topics_of(function.function_name, feeds=feeds)):
                for name, topic in topics[written].items():
                    function.may_publish_to(name, topic)

    def _account_for_destinations(self) -> gcp.serviceaccount.Account:
        """Owners of topics let this account in. It has no rights here: no topic of ours is a destination."""
        return gcp.serviceaccount.Account(
            "destinations",
            account_id="aep-destinations",
            display_name="Publishes to the Pub/Sub topics of subscribers",
            opts=pulumi.ResourceOptions(depends_on=self.project.apis, protect=self.settings.protect),
        )

    def _let_functions_act_for_destinations(self) -> None:
        """Lets deliver publish to subscribers' topics, and manage read their labels."""
        for function in (self.deliver, self.manage):
            gcp.serviceaccount.IAMMember(
                f"{function.function_name}-acts-for-destinations",
                service_account_id=self.destinations.name,
                role="roles/iam.serviceAccountTokenCreator",
                member=function.account.member,
            )

    def _front_door(self) -> FrontDoor | None:
        if self.settings.domain is None:
            return None
        return FrontDoor(self.project, self.settings.domain, manage=self.manage, ingest=self.ingest)

    def _ingest_url(self) -> pulumi.Output[str]:
        base = self.public_url if self.settings.domain else self.ingest.url
        return pulumi.Output.concat(base, "/ingest")

    def _next_steps(self) -> Sequence[pulumi.Input[str]]:
        """Returns what leads from the first `up` to the first event; docs/operate.md has it with reasons."""
        steps: list[pulumi.Input[str]] = []
        if self.front_door:
            domain = self.settings.domain
            steps.append(
                pulumi.Output.concat(
                    f"DNS: {domain} A ", self.front_door.address, "; its certificate comes within an hour"
                )
            )
        steps += [
            pulumi.Output.concat("check: curl ", self.public_url, "/health"),
            pulumi.Output.concat(
                "check all six: pulumi stack output --json | ../.venv/bin/aep doctor --deployed ",
                self.public_url,
                " --stack -",
            ),
        ]
        if self.settings.pims is None:
            key = 'export AEP_REGISTRY_KEY="$(pulumi config get registryKey)"'
            address = 'AEP_INGEST_URL="$(pulumi stack output ingestUrl)"'
            on_google = f"--google {self.settings.project}"
            add = "../.venv/bin/aep pims add https://YOUR-PIM --auth platform-key"
            client = "../.venv/bin/aep pims client https://YOUR-PIM first-app"
            configure = 'pulumi config set --secret pims "$(cat pims.json)" && pulumi up'
            steps += [
                f"what the next command reads: {key} {address}",
                f"the first PIM, whose ingest key is printed once: {add} {on_google}",
                f"its first client, whose token is printed once: {client} {on_google}",
                f"or the PIM in the configuration instead: {add} --pims pims.json && {configure}",
            ]
        steps.append(
            "a token, a subscriber, a subscription, the first event, and where to look: docs/operate.md,"
            " 'The first event'"
        )
        if not (self.settings.alert_emails or self.settings.alert_channels):
            steps.append("have alerts reach you: pulumi config set --path 'alertEmails[0]' you@example.com")
        return steps
