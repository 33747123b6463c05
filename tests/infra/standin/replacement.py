"""The arguments of our resource types whose change makes Google's provider replace the resource.

They follow from Google's APIs, which cannot change them in place.
"""

import re
from collections.abc import Mapping

from .checks import rules_of

EVERYTHING = frozenset({"*"})
ALWAYS = frozenset({"name", "project", "location", "region"})
"""They are in the address of a resource."""
UPDATED_IN_PLACE = frozenset({"deletionPolicy", "skipWait", "labels"})
"""Arguments for the provider itself, and labels."""

REPLACED_BY: Mapping[str, frozenset[str]] = {
    "artifactregistry/repository:Repository": frozenset({"repositoryId", "format", "kmsKeyName", "mode"}),
    "certificatemanager/certificate:Certificate": frozenset({"managed", "scope"}),
    "certificatemanager/certificateMapEntry:CertificateMapEntry": frozenset({"map", "hostname", "matcher"}),
    "cloudfunctionsv2/function:Function": frozenset(),
    "cloudrunv2/serviceIamMember:ServiceIamMember": EVERYTHING,
    "cloudscheduler/job:Job": frozenset(),
    "compute/address:Address": EVERYTHING,
    "compute/globalAddress:GlobalAddress": EVERYTHING,
    "compute/globalForwardingRule:GlobalForwardingRule": frozenset(
        {"description", "ipAddress", "ipProtocol", "ipVersion", "metadataFilters", "network", "portRange"}
    ),
    "compute/managedSslCertificate:ManagedSslCertificate": EVERYTHING,
    "compute/network:Network": frozenset({"autoCreateSubnetworks", "description", "internalIpv6Range"}),
    "compute/regionNetworkEndpointGroup:RegionNetworkEndpointGroup": EVERYTHING,
    "compute/router:Router": frozenset({"network", "encryptedInterconnectRouter"}),
    "compute/routerNat:RouterNat": frozenset({"router", "endpointTypes", "type"}),
    "compute/subnetwork:Subnetwork": frozenset({"network", "description"}),
    "compute/targetHttpsProxy:TargetHttpsProxy": frozenset({"description", "proxyBind"}),
    "firebaserules/ruleset:Ruleset": EVERYTHING,
    "firestore/backupSchedule:BackupSchedule": frozenset({"database", "dailyRecurrence", "weeklyRecurrence"}),
    "firestore/database:Database": frozenset({"locationId", "databaseEdition", "cmekConfig"}),
    "firestore/field:Field": frozenset({"collection", "database", "field"}),
    "firestore/index:Index": EVERYTHING,
    "projects/iAMCustomRole:IAMCustomRole": frozenset({"roleId"}),
    "projects/iAMMember:IAMMember": EVERYTHING,
    "projects/service:Service": frozenset({"service"}),
    "projects/serviceIdentity:ServiceIdentity": EVERYTHING,
    "pubsub/subscription:Subscription": frozenset({"topic", "enableMessageOrdering", "filter"}),
    "pubsub/subscriptionIAMMember:SubscriptionIAMMember": EVERYTHING,
    "pubsub/topicIAMMember:TopicIAMMember": EVERYTHING,
    "secretmanager/secret:Secret": frozenset({"secretId", "replication"}),
    "secretmanager/secretIamMember:SecretIamMember": EVERYTHING,
    "secretmanager/secretVersion:SecretVersion": frozenset({"secret", "secretData", "isSecretDataBase64"}),
    "serviceaccount/account:Account": frozenset({"accountId"}),
    "serviceaccount/iAMMember:IAMMember": EVERYTHING,
    "storage/bucket:Bucket": frozenset({"customPlacementConfig", "enableObjectRetention"}),
    "storage/bucketObject:BucketObject": EVERYTHING,
}
"""By token without `gcp:`, beside `ALWAYS`; `EVERYTHING` is all but `UPDATED_IN_PLACE`."""


def replaces(token: str, path: str) -> bool:
    """True if a change at this path, such as `managed.domains[0]`, forces a new resource."""
    steps = re.sub(r"\[\d+\]", "", path).split(".")
    if rules := rules_of(token):
        return any(rules.get(".".join(steps[:n]), {}).get("forceNew") for n in range(1, len(steps) + 1))
    replaced_by = REPLACED_BY.get(token.removeprefix("gcp:"), frozenset[str]())
    if replaced_by is EVERYTHING:
        return steps[0] not in UPDATED_IN_PLACE
    return steps[0] in replaced_by | ALWAYS


def is_kept_by_google(token: str, path: str) -> bool:
    """True for what Google fills in where a program is silent: leaving it out changes nothing."""
    return bool(rules_of(token).get(re.sub(r"\[\d+\]", "", path), {}).get("computed"))
