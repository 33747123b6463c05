"""Each rule of the policy pack, by what it refuses and what it lets pass."""

from collections.abc import Mapping
from typing import Any

import pytest
from pulumi_policy import ResourceValidationArgs
from pulumi_policy.policy import PolicyResourceOptions
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from rules import RULES

DATABASE = "gcp:firestore/database:Database"
INVOKER = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
SUBSCRIPTION = "gcp:pubsub/subscription:Subscription"
FUNCTION = "gcp:cloudfunctionsv2/function:Function"
TOPIC_MEMBER = "gcp:pubsub/topicIAMMember:TopicIAMMember"
ROLE = "gcp:projects/iAMCustomRole:IAMCustomRole"
PUSH = {"pushEndpoint": "https://x", "oidcToken": {"serviceAccountEmail": "a@b", "audience": "https://x"}}


def reading(name: str, *secrets: str) -> Mapping[str, Any]:
    """A public function that is given these secrets."""
    variables = [{"key": "AEP_X", "secret": secret} for secret in secrets]
    return {"name": name, "serviceConfig": {"secretEnvironmentVariables": variables}}


def refused(kind: str, props: Mapping[str, Any], *, protect: bool = True) -> list[str]:
    """What all rules together have against a resource."""
    options = PolicyResourceOptions(
        protect=protect,
        ignore_changes=[],
        delete_before_replace=None,
        aliases=[],
        custom_timeouts=None,  # pyright: ignore[reportArgumentType]
        additional_secret_outputs=[],
    )
    args = ResourceValidationArgs(kind, props, f"urn:{kind}", "it", options, None)
    told: list[str] = []
    for rule in RULES:
        rule(args, lambda message, _: told.append(message))
    return told


@pytest.mark.parametrize(
    ("kind", "props"),
    [
        (INVOKER, {"name": "manage", "role": "roles/run.invoker", "member": "allUsers"}),
        (INVOKER, {"name": "deliver", "role": "roles/run.invoker", "member": "serviceAccount:a@b"}),
        (DATABASE, {"deleteProtectionState": "DELETE_PROTECTION_ENABLED"}),
        (SUBSCRIPTION, {"pushConfig": PUSH}),
        (SUBSCRIPTION, {}),
        (FUNCTION, {"name": "manage", "serviceConfig": {"ingressSettings": "ALLOW_ALL"}}),
        (FUNCTION, {"name": "deliver", "serviceConfig": {"ingressSettings": "ALLOW_INTERNAL_ONLY"}}),
        (TOPIC_MEMBER, {"role": "roles/pubsub.publisher", "member": "serviceAccount:a@b"}),
        (FUNCTION, reading("ingest", "aep-registry-key", "aep-pims")),
        (ROLE, {"permissions": ["datastore.entities.get", "pubsub.topics.publish"]}),
        (FUNCTION, reading("manage", "aep-secrets-key", "aep-pims-without-secrets", "another")),
    ],
)
def test_what_is_right_passes(kind: str, props: Mapping[str, Any]) -> None:
    assert refused(kind, props) == []


def test_a_value_that_a_preview_does_not_know_is_no_violation_and_no_advisory() -> None:
    token = {"serviceAccountEmail": UNKNOWN_STRING_VALUE, "audience": UNKNOWN_STRING_VALUE}
    props = unknown_checking_proxy({"pushConfig": {"oidcToken": token}})
    assert refused(SUBSCRIPTION, props) == []
    without = unknown_checking_proxy({"pushConfig": {"oidcToken": {"audience": UNKNOWN_STRING_VALUE}}})
    (message,) = refused(SUBSCRIPTION, without)
    assert "without an OIDC token" in message


@pytest.mark.parametrize(
    ("kind", "props", "told"),
    [
        (
            INVOKER,
            {"name": "deliver", "role": "roles/run.invoker", "member": "allUsers"},
            "lets everybody in",
        ),
        (INVOKER, {"name": "manage", "role": "roles/run.admin", "member": "allUsers"}, "lets everybody in"),
        (TOPIC_MEMBER, {"name": "ingest", "member": "allAuthenticatedUsers"}, "lets everybody in"),
        ("gcp:projects/iAMBinding:IAMBinding", {"members": ["x", "allUsers"]}, "lets everybody in"),
        ("gcp:projects/iAMMember:IAMMember", {"role": "roles/editor", "member": "x"}, "grants roles/editor"),
        (DATABASE, {"deleteProtectionState": "DELETE_PROTECTION_DISABLED"}, "can be deleted at Google"),
        (DATABASE, {}, "can be deleted at Google"),
        (SUBSCRIPTION, {"pushConfig": {"pushEndpoint": "https://x"}}, "without an OIDC token"),
        (
            SUBSCRIPTION,
            {"pushConfig": {**PUSH, "oidcToken": {"serviceAccountEmail": "a@b"}}},
            "without an OIDC token",
        ),
        (
            FUNCTION,
            {"name": "deliver", "serviceConfig": {"ingressSettings": "ALLOW_ALL"}},
            "from the internet",
        ),
        (FUNCTION, {"name": "deliver", "serviceConfig": {}}, "from the internet"),
        (FUNCTION, reading("manage", "aep-feed-key"), "gets the secret aep-feed-key"),
        (FUNCTION, reading("ingest", "aep-secrets-key"), "gets the secret aep-secrets-key"),
        (FUNCTION, reading("manage", "aep-registry-key"), "gets the secret aep-registry-key"),
        (FUNCTION, reading("manage", "aep-pims"), "gets the secret aep-pims,"),
        (ROLE, {"permissions": ["pubsub.subscriptions.consume"]}, "which maintain alone needs"),
        (ROLE, {"permissions": ["pubsub.topics.attachSubscription"]}, "which maintain alone needs"),
    ],
)
def test_what_is_wrong_is_refused(kind: str, props: Mapping[str, Any], told: str) -> None:
    (message,) = refused(kind, props)
    assert told in message


@pytest.mark.parametrize(
    "kind",
    [
        DATABASE,
        SUBSCRIPTION,
        "gcp:pubsub/topic:Topic",
        "gcp:secretmanager/secret:Secret",
    ],
)
def test_unprotected_data_is_refused(kind: str) -> None:
    props = {"deleteProtectionState": "DELETE_PROTECTION_ENABLED"}
    (message,) = refused(kind, props, protect=False)
    assert "is not protected" in message
