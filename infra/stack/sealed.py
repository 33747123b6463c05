"""Secrets in Secret Manager, each with its value and its readers."""

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.cloudfunctionsv2 import FunctionServiceConfigSecretEnvironmentVariableArgs

from .environment import SECRETS
from .part import Part, Project


class Sealed(Part):
    """A secret that functions read as a variable. A new value is a new version, for which they start anew."""

    def __init__(self, variable: str, value: str, project: Project, *, name: str | None = None) -> None:
        """`name` is the secret's in Secret Manager, unless it is the variable's usual one."""
        name = name or SECRETS[variable]
        super().__init__("Sealed", name, project)
        self._variable, self._name = variable, name
        self._secret = gcp.secretmanager.Secret(
            name,
            secret_id=name,
            replication={"auto": {}},
            labels=self.settings.labels,
            opts=self.child(holds_data=True),
        )
        self._latest = gcp.secretmanager.SecretVersion(
            name,
            secret=self._secret.id,
            secret_data=pulumi.Output.secret(value),
            deletion_policy="ABANDON",  # instances that still run, and a roll-back, need the one before
            opts=self.child(replace_first=False),
        )
        self.register_outputs({})

    def readable_by(
        self, function: str, account: gcp.serviceaccount.Account, options: pulumi.ResourceOptions
    ) -> pulumi.Resource:
        """Lets a function's account read it."""
        return gcp.secretmanager.SecretIamMember(
            f"{function}-reads-{self._name}",
            secret_id=self._secret.id,
            role="roles/secretmanager.secretAccessor",
            member=account.member,
            opts=options,
        )

    def variable(self) -> FunctionServiceConfigSecretEnvironmentVariableArgs:
        """Returns it as a function's variable, in this very version."""
        return FunctionServiceConfigSecretEnvironmentVariableArgs(
            key=self._variable,
            project_id=self.settings.project,
            secret=self._name,
            version=self._latest.version,
        )
