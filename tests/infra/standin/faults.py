"""Calls that fail: on demand, or because something that they need was ordered but is not ready yet.

`faults.json` has two keys, both optional:

- `faults`: a list of `{"type": "pubsub/topic:Topic", "name": …, "call": "create" or "update", "how": …,
  "error": …, "times": 1}`; without `name` or `call` each fits. `how` is `refused` (nothing is done) or
  `half-way` (the first half is done, as when a build fails). A fault that has happened is taken out.
- `ready_after`: seconds by kind, `{"rights": 60, "agents": 60, "metrics": 60}`. A function whose accounts
  were given a right less long ago fails half-way. A grant to Google's own account, and an alert on a metric,
  are refused until these are as old.
"""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cloud import Cloud, Made, archive_of
from .outputs import AGENT, FUNCTION, PROJECT_NUMBER
from .wire import Properties

INVOKER = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
METRIC = "gcp:logging/metric:Metric"
ALERT = "gcp:monitoring/alertPolicy:AlertPolicy"

BUILD_FAILED = (
    "Error waiting for {verb} function: Error code 3, message: Build failed with status: FAILURE and "
    "message: An unexpected error occurred."
)
NO_RIGHT_TO_BUILD = (
    "Error waiting for {verb} function: Error code 3, message: Build failed with status: FAILURE. Could not "
    "build the function due to a missing permission on the build service account."
)
NO_RIGHT_TO_READ = (
    "Error waiting for {verb} function: Error code 3, message: Could not create or update Cloud Run service. "
    "Permission denied on secret for Revision service account {account}."
)
NO_START = (
    "Error waiting for {verb} function: Error code 3, message: Could not create or update Cloud Run service "
    "{name}, Container Healthcheck failed."
)
NO_SERVICE = "googleapi: Error 404: Resource '{name}' of kind 'SERVICE' in region '{region}' does not exist."
NO_AGENT = "googleapi: Error 400: Service account {account} does not exist., badRequest"
NO_METRIC = (
    'googleapi: Error 404: Cannot find metric that matches type = "{metric}". If a metric was created '
    "recently, it could take up to 10 minutes to become available. Please try again soon."
)
EXISTS = "googleapi: Error 409: Resource '{id}' already exists."
VERBS: Mapping[str, str] = {"create": "Creating", "update": "Updating"}


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call fails."""

    error: str
    half_way: bool = False


def failure_of(
    cloud: Cloud,
    call: str,
    token: str,
    urn: str,
    identity: str,
    inputs: Properties,
    changed: Collection[str],
) -> Failure | None:
    """Returns how a call of Google's API fails, or None if it succeeds. `call` is `create` or `update`."""
    if fault := cloud.take_fault(token, urn.rsplit("::", 1)[-1], call):
        error = fault.get(
            "error", BUILD_FAILED if token == FUNCTION else "googleapi: Error 500: Internal error"
        )
        return Failure(error.format(verb=VERBS[call]), half_way=fault["how"] == "half-way")
    made = cloud.find(token, identity)
    if call == "create" and made is not None and not made.remembered:
        return Failure(EXISTS.format(id=identity))
    if (
        made is not None
        and token == FUNCTION
        and "buildConfig" not in changed
        and _starts_other_code(made, inputs)
    ):
        return Failure(NO_START.format(verb=VERBS[call], name=inputs["name"]), half_way=True)
    return _not_ready(cloud, call, token, inputs)


def _not_ready(cloud: Cloud, call: str, token: str, inputs: Properties) -> Failure | None:
    ready_after = cloud.plan().get("ready_after", {})
    if token == FUNCTION and "rights" in ready_after:
        return _without_rights(cloud, call, inputs, ready_after["rights"])
    if token == INVOKER and not _has_service(cloud, inputs["name"]):
        return Failure(NO_SERVICE.format(name=inputs["name"], region=inputs.get("location")))
    if token == ALERT and "metrics" in ready_after:
        ready = {
            f"logging.googleapis.com/user/{metric.inputs['name']}"
            for metric in _old_enough(cloud, METRIC, ready_after["metrics"])
        }
        missing = sorted(set(_metrics_in(inputs)) - ready)
        return Failure(NO_METRIC.format(metric=missing[0])) if missing else None
    if "agents" in ready_after and (account := _agent_in(inputs)):
        known = [agent.inputs["service"] for agent in _old_enough(cloud, AGENT, ready_after["agents"])]
        if f"{account.split('@gcp-sa-')[1].split('.')[0]}.googleapis.com" not in known:
            return Failure(NO_AGENT.format(account=account))
    return None


def _starts_other_code(made: Made, inputs: Properties) -> bool:
    """True if settings that name an archive meet the code of another, which does not start with them."""
    wanted = inputs["serviceConfig"].get("environmentVariables", {}).get("AEP_ARCHIVE")
    return made.works and wanted not in (None, archive_of(made.inputs))


USED_LATER = ("gcp:pubsub/", "gcp:serviceaccount/")
"""Rights that a function needs when it is called, not at its creation: no stack waits for them."""


def _without_rights(cloud: Cloud, call: str, inputs: Properties, seconds: float) -> Failure | None:
    """Returns the failure of a function whose builder or account has a right that is not in force yet."""
    builder = str(inputs["buildConfig"].get("serviceAccount", "")).rsplit("/", 1)[-1]
    account = inputs["serviceConfig"].get("serviceAccountEmail")
    now = time.time()
    young = [
        made.inputs["member"]
        for made in cloud.all()
        if made.token.lower().endswith("iammember")
        and not made.token.startswith(USED_LATER)
        and now - made.since < seconds
    ]
    if f"serviceAccount:{builder}" in young:
        return Failure(NO_RIGHT_TO_BUILD.format(verb=VERBS[call]), half_way=True)
    if f"serviceAccount:{account}" in young:
        return Failure(NO_RIGHT_TO_READ.format(verb=VERBS[call], account=account), half_way=True)
    return None


def _old_enough(cloud: Cloud, token: str, seconds: float) -> Sequence[Made]:
    now = time.time()
    return [made for made in cloud.all() if made.token == token and now - made.since >= seconds]


def _has_service(cloud: Cloud, name: str) -> bool:
    """True unless the function of that name was never built."""
    return cloud.archives().get(name, "") is not None


def _metrics_in(alert: Any) -> Sequence[str]:
    """Returns the log-based metrics that the conditions of an alert name."""
    return re.findall(r'metric\.type="(logging\.googleapis\.com/user/[^"]+)"', _texts_in(alert))


def _agent_in(inputs: Properties) -> str:
    """Returns the account of Google's own that a grant names, or nothing."""
    member = str(inputs.get("member", ""))
    account = member.removeprefix("serviceAccount:")
    return account if account.startswith(f"service-{PROJECT_NUMBER}@gcp-sa-") else ""


def _texts_in(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(_texts_in(inner) for inner in value.values())
    if isinstance(value, list):
        return "\n".join(_texts_in(inner) for inner in value)
    return str(value)
