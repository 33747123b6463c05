"""Ids and outputs: what Google fills in when a resource has been made."""

import hashlib
import inspect
import os
import re
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pulumi import _types

from .package import arguments_of, classes, plain_types, snake_case
from .wire import UNKNOWN, Properties, is_unknown

PROJECT_NUMBER = "123456789012"
LONG_AGO = "2026-01-01T00:00:00Z"
GENERATED = frozenset({"createTime", "updateTime", "uid", "etag", "fingerprint", "generation"})
FUNCTION = "gcp:cloudfunctionsv2/function:Function"
AGENT = "gcp:projects/serviceIdentity:ServiceIdentity"
"""Google's own account of a service."""

SPECIAL_IDS = {
    "gcp:firestore/field:Field": (
        "projects/{{project}}/databases/{{database}}/collectionGroups/{{collection}}/fields/{{field}}"
    ),
    "gcp:firestore/index:Index": (
        "projects/{{project}}/databases/{{database}}/collectionGroups/{{collection}}/indexes/{{hash}}"
    ),
    "gcp:serviceaccount/account:Account": (
        "projects/{{project}}/serviceAccounts/{{account_id}}@{{project}}.iam.gserviceaccount.com"
    ),
    "gcp:storage/bucket:Bucket": "{{name}}",
    "gcp:storage/bucketObject:BucketObject": "{{bucket}}-{{name}}",
    "gcp:projects/service:Service": "{{project}}/{{service}}",
    "gcp:secretmanager/secretVersion:SecretVersion": "{{secret}}/versions/1",
    "gcp:monitoring/alertPolicy:AlertPolicy": "projects/{{project}}/alertPolicies/{{hash}}",
    "gcp:monitoring/dashboard:Dashboard": f"projects/{PROJECT_NUMBER}/dashboards/{{{{hash}}}}",
    "gcp:monitoring/notificationChannel:NotificationChannel": (
        "projects/{{project}}/notificationChannels/{{hash}}"
    ),
}
NAME_IS_ID = (
    "serviceaccount/account",
    "alertPolicy:",
    "notificationChannel:",
    "secretVersion:",
    "firestore/index",
    "firestore/field",
)


class Settings:
    """The settings of the provider."""

    def __init__(self, values: Properties) -> None:
        env = os.environ.get
        self.project: str | None = (
            values.get("project")
            or env("GOOGLE_PROJECT")
            or env("GOOGLE_CLOUD_PROJECT")
            or env("CLOUDSDK_CORE_PROJECT")
        )
        self.region: str | None = (
            values.get("region") or env("GOOGLE_REGION") or env("CLOUDSDK_COMPUTE_REGION")
        )
        self.pubsub: str | None = values.get("pubsubCustomEndpoint") or env("GOOGLE_PUBSUB_CUSTOM_ENDPOINT")


@cache
def _template(token: str) -> str:
    """Returns the form of a type's ids: the first under '## Import' in its documentation, if it fits."""
    if token in SPECIAL_IDS:
        return SPECIAL_IDS[token]
    source = Path(inspect.getsourcefile(classes(token)[0]) or "").read_text()
    match = re.search(r"## Import.*?\* `([^`]+)`", source, re.DOTALL)
    return match[1] if match and match[1].startswith("projects/") else ""


def make_id(token: str, urn: str, inputs: Properties, settings: Settings) -> str:
    """Returns the id of a resource."""
    values = {
        snake_case(name): value for name, value in inputs.items() if isinstance(value, str | int | float)
    }
    values.setdefault("project", settings.project or "unknown")
    values.setdefault("region", settings.region or "unknown")
    values.setdefault("location", values["region"])
    values.setdefault("database", "(default)")
    values["hash"] = hashlib.sha256(urn.encode()).hexdigest()[:16]
    template = _template(token)
    if not template or any(name not in values for name in re.findall(r"{{(.*?)}}", template)):
        return "/".join(str(values[name]) for name in sorted(values) if name not in ("hash", "region"))
    return re.sub(r"{{(.*?)}}", lambda match: str(values[match[1]]), template)


def inputs_from_id(token: str, identity: str) -> Properties:
    """Returns the inputs that an id contains, for a resource that was made elsewhere (`.get`, `import`)."""
    parts = re.split(r"{{(\w+)}}", _template(token))
    seen: set[str] = set()
    pattern = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>.+)"
            seen.add(part)
    match = re.fullmatch(pattern, identity)
    names = {snake_case(name): name for name in arguments_of(classes(token)[1])}
    found = match.groupdict() if match else {}
    return {names[name]: value for name, value in found.items() if name in names}


def outputs_of(
    token: str,
    urn: str,
    inputs: Properties,
    settings: Settings,
    identity: str,
    *,
    preview: bool = False,
    created: str = LONG_AGO,
) -> Properties:
    """Returns the inputs with all that Google fills in, which is unknown in a preview."""
    resource, _ = classes(token)
    kinds: Mapping[str, Any] = _types.resource_types(resource)
    result = {name: value for name, value in inputs.items() if name != "__defaults"}
    missing = [name for name in kinds if name not in result]
    if "project" in missing and settings.project:
        result["project"] = settings.project
    for scope in ("region", "location"):
        if scope in missing and settings.region:
            result[scope] = settings.region
    if token.endswith(":Account") and "accountId" in result and not is_unknown(result["accountId"]):
        result["email"] = f"{result['accountId']}@{result.get('project')}.iam.gserviceaccount.com"
        result["member"] = f"serviceAccount:{result['email']}"
    if token == AGENT and not is_unknown(result["service"]):
        agent = result["service"].removesuffix(".googleapis.com")
        result["email"] = f"service-{PROJECT_NUMBER}@gcp-sa-{agent}.iam.gserviceaccount.com"
        result["member"] = f"serviceAccount:{result['email']}"
    if "labels" in kinds:
        labels = {**(inputs.get("labels") or {}), "goog-pulumi-provisioned": "true"}
        result["pulumiLabels"] = result["effectiveLabels"] = labels
    if preview:
        return {**dict.fromkeys(missing, UNKNOWN), **result}
    if "name" in missing and any(part in token for part in NAME_IS_ID):
        result["name"] = identity
    return _filled(token, urn, result, {name: kinds[name] for name in missing}, identity, created)


def _filled(
    token: str, urn: str, result: Properties, missing: Mapping[str, Any], identity: str, created: str
) -> Properties:
    """Returns the outputs with a value for each that is missing."""
    short = str(result.get("name", "")).rsplit("/", 1)[-1]
    where, project = result.get("location") or result.get("region"), result.get("project")
    uri = f"https://{short}-{PROJECT_NUMBER}.{where}.run.app"
    url = f"https://{where}-{project}.cloudfunctions.net/{short}" if token == FUNCTION else f"gs://{short}"
    known: Properties = {
        "url": url,
        "uri": uri,
        "selfLink": f"https://www.googleapis.com/{identity}",
        "uniqueId": PROJECT_NUMBER + hashlib.sha256(urn.encode()).hexdigest()[:9],
        "version": "1",
        "state": "ACTIVE",
        "environment": "GEN_2",
        "enabled": True,
        "number": PROJECT_NUMBER,
        "secretId": short,
    }
    for name, wrapped in missing.items():
        if name in result:
            continue
        kind = (plain_types(wrapped) or [str])[0]
        origin = typing.get_origin(kind)
        if name in known and (kind is str or isinstance(known[name], bool)):
            result[name] = known[name]
        elif name in GENERATED:
            generated = hashlib.sha256((urn + name).encode()).hexdigest()[:12]
            result[name] = created if name.endswith("Time") else generated
        elif kind is str:
            result[name] = ""
        elif origin in (list, Sequence):
            result[name] = []
        elif origin in (dict, Mapping):
            result[name] = {}
    if token == FUNCTION and isinstance(result.get("serviceConfig"), dict):
        service = {"uri": uri, "service": f"projects/{project}/locations/{where}/services/{short}"}
        result["serviceConfig"] = {**service, **result["serviceConfig"]}
        result["url"] = url
    return result
