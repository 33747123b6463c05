"""The functions, each with its account and with what that may do: what `permissions.py` says and no more."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.cloudfunctionsv2 import (
    FunctionBuildConfigArgs,
    FunctionBuildConfigSourceArgs,
    FunctionServiceConfigArgs,
)

from event_platform.permissions import TOPICS_PUBLISH, permissions_of

from .egress import Egress
from .part import Part, Project
from .rights import EffectiveRights
from .sealed import Sealed
from .sizes import CPUS_OF_AN_INSTANCE, Size
from .source import Source

RUNTIME = "python311"
"""The version that the tests run on."""


class NeverBuilt(pulumi.RunError):
    """Raised when a function is in the stack's state but has no service, as its creation failed."""

    def __init__(self, function: str, attempt: int) -> None:
        super().__init__(
            f"the function {function} was never built, or never started. When the cause is away (Cloud Build,"
            f" History): `pulumi config set attempt {attempt + 1}`, then `pulumi up`"
        )


class Identity(Part):
    """The account of a function, with the rights that it needs when the function starts."""

    def __init__(self, name: str, project: Project, *, secrets: Sequence[Sealed]) -> None:
        super().__init__("Identity", name, project)
        self.function_name = name
        self.secrets = secrets
        self.account = gcp.serviceaccount.Account(
            name,
            account_id=f"aep-{name}",
            display_name=f"The function {name} of the event platform",
            opts=self.child(),
        )
        readers = [secret.readable_by(name, self.account, self.child()) for secret in secrets]
        self.rights: Sequence[pulumi.Resource] = [*readers, *self._use_of_the_store()]
        self.register_outputs({})

    def _use_of_the_store(self) -> Sequence[pulumi.Resource]:
        """Grants a role of its own. Firestore knows no rights on a collection, so it is the project's."""
        feeds = self.settings.feed_key is not None
        permissions = sorted(permissions_of(self.function_name, feeds=feeds) - {TOPICS_PUBLISH})
        if not permissions:
            return []
        role_id = f"eventPlatform{self.function_name.capitalize()}{self.settings.role_suffix}"
        role = gcp.projects.IAMCustomRole(
            f"{self.function_name}-role",
            role_id=role_id,
            title=f"Event platform: {self.function_name}",
            permissions=permissions,
            opts=self.child(),
        )
        granted = gcp.projects.IAMMember(
            f"{self.function_name}-role",
            project=self.settings.project,
            role=f"projects/{self.settings.project}/roles/{role_id}",  # its id, which a preview knows as well
            member=self.account.member,
            opts=self.child(role),
        )
        return [granted]


class CloudFunction(Part):
    """One of the six. `caller` is the only account that may call it; without one, everybody may."""

    def __init__(
        self,
        identity: Identity,
        size: Size,
        *,
        source: Source,
        rights: EffectiveRights,
        environment: Mapping[str, pulumi.Input[str]],
        public: bool = False,
        egress: Egress | None = None,
    ) -> None:
        name = identity.function_name
        super().__init__("CloudFunction", name, identity.project)
        self.function_name = name
        self.account = identity.account
        self.caller = None if public else self._caller()
        self.function = gcp.cloudfunctionsv2.Function(
            name,
            name=name,
            location=self.settings.region,
            build_config=FunctionBuildConfigArgs(
                runtime=RUNTIME,
                entry_point=name,
                service_account=source.builder.id,
                docker_repository=source.images.id,
                source=FunctionBuildConfigSourceArgs(storage_source=source.object()),
            ),
            service_config=FunctionServiceConfigArgs(
                service_account_email=self.account.email,
                available_cpu=str(CPUS_OF_AN_INSTANCE),
                available_memory=size.memory,
                timeout_seconds=size.timeout,
                max_instance_request_concurrency=size.concurrency,
                min_instance_count=size.min_instances,
                max_instance_count=size.max_instances,
                ingress_settings=self._ingress(public),
                environment_variables=dict(environment),
                secret_environment_variables=[secret.variable() for secret in identity.secrets],
                direct_vpc_egress="VPC_EGRESS_ALL_TRAFFIC" if egress else None,
                direct_vpc_network_interfaces=[egress.interface()] if egress else None,
            ),
            labels=self.settings.labels,
            opts=self.child(rights.reached),
        )
        self.url = self._address()
        self.may_call = self._invokers()
        self.register_outputs({})

    def _invokers(self) -> Sequence[pulumi.Resource]:
        """Lets its caller or everybody in; nobody where the organisation refuses `allUsers`."""
        if self.caller is None and not self.settings.all_users:
            return []
        invoker = gcp.cloudrunv2.ServiceIamMember(
            f"{self.function_name}-invoker",
            name=self.function.name,
            location=self.settings.region,
            role="roles/run.invoker",
            member=self.caller.member if self.caller else "allUsers",
            opts=self.child(),
        )
        return [invoker]

    def may_publish_to(self, topic: str, resource: gcp.pubsub.Topic) -> None:
        """Lets the function publish to one topic. `topic` is its name."""
        gcp.pubsub.TopicIAMMember(
            f"{self.function_name}-to-{topic}",
            topic=resource.name,
            role="roles/pubsub.publisher",
            member=self.account.member,
            opts=self.child(),
        )

    def _caller(self) -> gcp.serviceaccount.Account:
        return gcp.serviceaccount.Account(
            f"{self.function_name}-caller",
            account_id=f"aep-call-{self.function_name}",
            display_name=f"Calls the function {self.function_name}",
            opts=self.child(),
        )

    def _address(self) -> pulumi.Output[str]:
        """The address that Cloud Run gave, which is also the audience of who calls.

        A preview may hold the configuration without it; the function's other address is unknown then as well.
        """
        config = self.function.service_config
        return self.function.url.apply(
            lambda _: config.apply(lambda known: self._known(known.uri if known else None))
        )

    def _known(self, address: str | None) -> str:
        """Raises NeverBuilt where a deployment finds no address: Pulumi takes a failed creation for made."""
        if not address and not pulumi.runtime.is_dry_run():
            raise NeverBuilt(self.function_name, self.settings.attempt)
        return address or ""

    def _ingress(self, public: bool) -> str:
        if not public:
            return "ALLOW_INTERNAL_ONLY"
        return "ALLOW_INTERNAL_AND_GCLB" if self.settings.domain else "ALLOW_ALL"
