"""The rules of the policy pack. What a preview does not know yet counts as given: `up` looks at it."""

from collections.abc import Mapping
from typing import Any

from pulumi_policy import ReportViolation, ResourceValidationArgs
from pulumi_policy.proxy import UnknownValueError

EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
PUBLIC = {"manage", "ingest"}
PRIMITIVE = {"roles/owner", "roles/editor", "roles/viewer"}
DATABASE = "gcp:firestore/database:Database"
HOLDS_DATA = {
    DATABASE,
    "gcp:pubsub/topic:Topic",
    "gcp:pubsub/subscription:Subscription",
    "gcp:secretmanager/secret:Secret",
}
READERS = {
    "aep-secrets-key": {"manage", "deliver", "notify"},
    "aep-registry-key": {"ingest"},
    "aep-feed-key": {"maintain"},
    "aep-pims": {"ingest"},
    "aep-pims-without-secrets": {"manage", "fanout", "maintain"},
    "aep-smtp-url": {"notify"},
}
ROLE = "gcp:projects/iAMCustomRole:IAMCustomRole"
ATTACHES = "pubsub.topics.attachSubscription"
PROTECTED = "DELETE_PROTECTION_ENABLED"
PRIVATE_INGRESS = "ALLOW_INTERNAL_ONLY"


def members(args: ResourceValidationArgs) -> set[str]:
    """Returns the members of a binding, in each of the forms that Google's resources have."""
    return {args.props["member"]} if "member" in args.props else set(args.props.get("members") or [])


def is_given(values: Mapping[str, Any], name: str) -> bool:
    """True if the value is there, or will be once what it follows from is created."""
    try:
        return bool(values.get(name))
    except UnknownValueError:
        return True


def nobody_else_is_public(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """`allUsers` may invoke manage and ingest, and may do nothing else."""
    if not members(args) & EVERYBODY:
        return
    invokes = (
        args.resource_type.startswith("gcp:cloudrunv2/service")
        and args.props.get("role") == "roles/run.invoker"
    )
    if not (invokes and args.props.get("name") in PUBLIC):
        report(f"{args.name} lets everybody in; only manage and ingest are public", args.urn)


def no_primitive_roles(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Owner, editor and viewer allow a thousand things of which a function needs six."""
    if args.props.get("role") in PRIMITIVE:
        report(f"{args.name} grants {args.props['role']}: name the permissions in permissions.py", args.urn)


def data_is_protected(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Holds that everything with data is protected in Pulumi, and the database at Google as well."""
    if args.resource_type not in HOLDS_DATA:
        return
    if not args.opts.protect:
        report(f"{args.name} holds data and is not protected", args.urn)
    if args.resource_type == DATABASE and args.props.get("deleteProtectionState") != PROTECTED:
        report(f"{args.name} can be deleted at Google: set deleteProtectionState", args.urn)


def only_public_functions_have_public_ingress(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """The others are reached from inside the project alone."""
    if args.resource_type != "gcp:cloudfunctionsv2/function:Function" or args.props.get("name") in PUBLIC:
        return
    if args.props["serviceConfig"].get("ingressSettings") != PRIVATE_INGRESS:
        report(
            f"{args.name} is reached from the internet: ingressSettings is to be {PRIVATE_INGRESS}", args.urn
        )


def pushes_prove_who_calls(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """A push carries a token for the very function, or the function could not tell it from others."""
    if args.resource_type != "gcp:pubsub/subscription:Subscription" or "pushConfig" not in args.props:
        return
    token = args.props["pushConfig"].get("oidcToken") or {}
    if not (is_given(token, "serviceAccountEmail") and is_given(token, "audience")):
        report(f"{args.name} pushes without an OIDC token for its audience", args.urn)


def each_function_has_its_own_secrets(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Whoever takes a function over reads no secret that the function has no use for."""
    if args.resource_type != "gcp:cloudfunctionsv2/function:Function":
        return
    name = args.props.get("name")
    for variable in args.props["serviceConfig"].get("secretEnvironmentVariables") or []:
        secret = variable.get("secret")
        if secret in READERS and name not in READERS[secret]:
            report(f"{name} gets the secret {secret}, which it does not read", args.urn)


def maintain_alone_makes_subscriptions(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Whoever makes subscriptions, or reads from any, sees the events of every PIM."""
    if args.resource_type != ROLE or args.name == "maintain-role":
        return
    for permission in args.props.get("permissions") or []:
        if permission.startswith("pubsub.subscriptions.") or permission == ATTACHES:
            report(f"{args.name} grants {permission}, which maintain alone needs", args.urn)


RULES = (
    nobody_else_is_public,
    no_primitive_roles,
    data_is_protected,
    only_public_functions_have_public_ingress,
    pushes_prove_who_calls,
    each_function_has_its_own_secrets,
    maintain_alone_makes_subscriptions,
)
