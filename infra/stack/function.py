"""A function with its account, and with what that account may do: what `permissions.py` says and no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.cloudfunctionsv2 import (
    FunctionBuildConfigArgs,
    FunctionBuildConfigSourceArgs,
    FunctionServiceConfigArgs,
)

from event_platform.permissions import PERMISSIONS, TOPICS_PUBLISH

from .egress import Egress
from .part import Part, Project
from .sealed import Sealed
from .source import Source

RUNTIME = "python311"
"""The version that the tests run on."""


@dataclass(frozen=True, slots=True)
class Size:
    """What an instance is and how many there may be. `memory` as Google writes it, `timeout` in seconds."""

    max_instances: int
    concurrency: int = 80
    memory: str = "512Mi"
    timeout: int = 60
    min_instances: int = 0


class CloudFunction(Part):
    """One of the six. `caller` is the only account that may call it; without one, everybody may."""

    def __init__(
        self,
        name: str,
        project: Project,
        size: Size,
        *,
        source: Source,
        environment: Mapping[str, pulumi.Input[str]],
        secrets: Sequence[Sealed],
        public: bool = False,
        egress: Egress | None = None,
    ) -> None:
        super().__init__("CloudFunction", name, project)
        self.function_name = name
        self.account = gcp.serviceaccount.Account(
            name,
            account_id=f"aep-{name}",
            display_name=f"The function {name} of the event platform",
            opts=self.child(),
        )
        self.caller = None if public else self._caller()
        may_read = [secret.readable_by(name, self.account, self.child()) for secret in secrets]
        self.function = gcp.cloudfunctionsv2.Function(
            name,
            name=name,
            location=self.settings.region,
            build_config=FunctionBuildConfigArgs(
                runtime=RUNTIME,
                entry_point=name,
                service_account=source.builder.id,
                source=FunctionBuildConfigSourceArgs(storage_source=source.object()),
            ),
            service_config=FunctionServiceConfigArgs(
                service_account_email=self.account.email,
                available_cpu="1",
                available_memory=size.memory,
                timeout_seconds=size.timeout,
                max_instance_request_concurrency=size.concurrency,
                min_instance_count=size.min_instances,
                max_instance_count=size.max_instances,
                ingress_settings=self._ingress(public),
                environment_variables=dict(environment),
                secret_environment_variables=[secret.variable() for secret in secrets],
                direct_vpc_egress="VPC_EGRESS_ALL_TRAFFIC" if egress else None,
                direct_vpc_network_interfaces=[egress.interface()] if egress else None,
            ),
            labels=self.settings.labels,
            opts=self.child(*source.builds, *may_read, *self._uses_the_store()),
        )
        self.url = self._address()
        self.may_call = gcp.cloudrunv2.ServiceIamMember(
            f"{name}-invoker",
            name=self.function.name,
            location=self.settings.region,
            role="roles/run.invoker",
            member=self.caller.member if self.caller else "allUsers",
            opts=self.child(),
        )
        self.register_outputs({})

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
        return self.function.url.apply(lambda _: config.apply(lambda known: known.uri or "" if known else ""))

    def _ingress(self, public: bool) -> str:
        if not public:
            return "ALLOW_INTERNAL_ONLY"
        return "ALLOW_INTERNAL_AND_GCLB" if self.settings.domain else "ALLOW_ALL"

    def _uses_the_store(self) -> Sequence[pulumi.Resource]:
        """The function's own role. Firestore knows no rights on a collection, so it is the project's."""
        permissions = sorted(PERMISSIONS[self.function_name] - {TOPICS_PUBLISH})
        if not permissions:
            return []
        role = gcp.projects.IAMCustomRole(
            f"{self.function_name}-role",
            role_id=f"eventPlatform{self.function_name.capitalize()}",
            title=f"Event platform: {self.function_name}",
            permissions=permissions,
            opts=self.child(),
        )
        granted = gcp.projects.IAMMember(
            f"{self.function_name}-role",
            project=self.settings.project,
            role=role.id,
            member=self.account.member,
            opts=self.child(),
        )
        return [granted]
