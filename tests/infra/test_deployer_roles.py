"""The roles of a deployer who is no owner: one for each kind of resource that the stacks make."""

import re
from collections.abc import Mapping, Sequence

from stack.source import FOLDER
from support.deployed import Deployed

REPOSITORY = FOLDER.parent
NEEDED: Mapping[str, Sequence[str]] = {
    "artifactregistry/": ["artifactregistry.admin"],
    "cloudfunctionsv2/": ["cloudfunctions.admin", "iam.serviceAccountUser"],
    "cloudrunv2/": ["run.admin"],
    "cloudscheduler/": ["cloudscheduler.admin", "iam.serviceAccountUser"],
    "compute/managedSslCertificate": ["compute.securityAdmin"],
    "compute/sSLPolicy": ["compute.securityAdmin"],
    "compute/securityPolicy": ["compute.securityAdmin"],
    "compute/": ["compute.networkAdmin"],
    "firebaserules/": ["firebaserules.admin"],
    "firestore/": ["datastore.owner"],
    "logging/": ["logging.configWriter"],
    "monitoring/": ["monitoring.editor"],
    "projects/iAMCustomRole": ["iam.roleAdmin"],
    "projects/iAMMember": ["resourcemanager.projectIamAdmin"],
    "projects/service": ["serviceusage.serviceUsageAdmin"],
    "pubsub/": ["pubsub.admin", "iam.serviceAccountUser"],
    "secretmanager/": ["secretmanager.admin"],
    "serviceaccount/": ["iam.serviceAccountAdmin"],
    "storage/": ["storage.admin"],
}
"""By the beginning of a type, the longest first, what Google asks for of who makes such a resource."""


def listed() -> list[str]:
    return (REPOSITORY / "infra" / "deployer-roles.txt").read_text().split()


def test_the_list_has_what_the_stacks_need_and_nothing_else(production: Deployed, minimal: Deployed) -> None:
    needed: set[str] = set()
    for resource in (*production.resources, *minimal.resources):
        kind = resource.type.removeprefix("gcp:")
        if resource.type.startswith("gcp:"):
            beginning = max((each for each in NEEDED if kind.startswith(each)), key=len, default=None)
            assert beginning, f"nobody says which role makes {kind}"
            needed |= {f"roles/{role}" for role in NEEDED[beginning]}
    assert listed() == sorted(needed)


def test_the_page_says_what_each_is_for() -> None:
    page = (REPOSITORY / "docs" / "deploy-from-ci.md").read_text().partition("\n## The roles\n")[2]
    rows = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    described = [f"roles/{role}" for row in rows for role in re.findall(r"`(.+?)`", row)]
    assert sorted(described) == listed()
