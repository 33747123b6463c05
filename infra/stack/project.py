"""The project's services, enabled before anything needs them."""

import pulumi
import pulumi_gcp as gcp

from .part import Project
from .settings import DeploymentSettings

APIS = (
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "firebaserules",
    "firestore",
    "iam",
    "iamcredentials",
    "logging",
    "monitoring",
    "pubsub",
    "run",
    "secretmanager",
    "storage",
)


def project_of(settings: DeploymentSettings) -> Project:
    """The project with its services. They stay enabled when the stack is destroyed: others may use them."""
    needs_network = settings.static_egress or settings.domain is not None
    apis = [
        gcp.projects.Service(
            f"api-{api}",
            service=f"{api}.googleapis.com",
            disable_on_destroy=False,
        )
        for api in (*APIS, *(["compute"] if needs_network else []))
    ]
    pubsub = gcp.projects.ServiceIdentity(
        "pubsub",
        project=settings.project,
        service="pubsub.googleapis.com",
        opts=pulumi.ResourceOptions(depends_on=apis),
    )
    return Project(settings, apis, pubsub)
