"""The base of the components."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from .settings import DeploymentSettings


@dataclass(frozen=True, slots=True)
class Project:
    """The project that everything is created in, once its services are enabled."""

    settings: DeploymentSettings
    apis: Sequence[gcp.projects.Service]
    pubsub: gcp.projects.ServiceIdentity
    """Google's own account that moves messages for Pub/Sub here. It exists once it was asked for."""


class Part(pulumi.ComponentResource):
    """A component. Its resources wait until the services of the project are enabled."""

    def __init__(self, kind: str, name: str, project: Project) -> None:
        super().__init__(f"event-platform:stack:{kind}", name)
        self.project = project
        self.settings = project.settings

    def child(
        self,
        *after: pulumi.Input[pulumi.Resource],
        holds_data: bool = False,
        replace_first: bool | None = None,
    ) -> pulumi.ResourceOptions:
        """Options of a resource of this component; one that holds data is protected against deletion."""
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=[*self.project.apis, *after],
            protect=self.settings.protect if holds_data else None,
            delete_before_replace=replace_first,
        )
