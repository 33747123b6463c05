"""What a stack creates, recorded by Pulumi's mocks, with questions that tests ask of it."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks, set_mocks
from pulumi.runtime.stack import wait_for_rpcs

PROJECT_NUMBER = "123456789012"
KEY = base64.b64encode(bytes(range(32))).decode()
REGISTRY_KEY = base64.b64encode(bytes(range(32, 64))).decode()
FEED_KEY = base64.b64encode(bytes(range(64, 96))).decode()
KEYS = {"event-platform:secretsKey": KEY, "event-platform:registryKey": REGISTRY_KEY}
SECRETS = {
    **KEYS,
    "event-platform:pims": '[{"url": "https://pim.example.com", "ingest_key": "the-ingest-key-of-tests"}]',
    "event-platform:smtpUrl": "smtps://user:password@mail.example.com",
}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that was registered: its inputs as the program gave them, in camelCase."""

    type: str
    name: str
    inputs: Mapping[str, Any]


@dataclass
class Recorder(mocks.Mocks):
    """Answers as Google would, as far as the program asks."""

    project: str
    created: str = "2026-01-01T00:00:00.123456789Z"
    resources: list[Resource] = field(default_factory=list)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.append(Resource(args.typ, args.name, args.inputs))
        outputs = dict(args.inputs)
        if args.typ == "gcp:serviceaccount/account:Account":
            email = f"{args.inputs['accountId']}@{self.project}.iam.gserviceaccount.com"
            outputs |= {"email": email, "member": f"serviceAccount:{email}"}
        if args.typ == "gcp:cloudfunctionsv2/function:Function":
            outputs["url"] = f"https://region-project.cloudfunctions.net/{args.name}"
            outputs["serviceConfig"] = {
                **args.inputs["serviceConfig"],
                "uri": f"https://{args.name}-abc.a.run.app",
            }
        if args.typ.startswith("gcp:compute/") and args.typ.endswith("Address"):
            outputs["address"] = "203.0.113.7"
        if args.typ == "gcp:secretmanager/secretVersion:SecretVersion":
            outputs["version"] = "1"
        if args.typ == "gcp:projects/serviceIdentity:ServiceIdentity":
            assert args.inputs["service"] == "pubsub.googleapis.com"
            email = f"service-{PROJECT_NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
            outputs |= {"email": email, "member": f"serviceAccount:{email}"}
        if args.typ == "gcp:storage/managedFolder:ManagedFolder":
            outputs["createTime"] = self.created
        if args.typ == "gcp:projects/iAMCustomRole:IAMCustomRole":
            return f"projects/{self.project}/roles/{args.inputs['roleId']}", outputs
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"Google is asked {args.token}")


class Monitor(mocks.MockMonitor):
    """The mocks' monitor, which also keeps what each resource waits for."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.waits_for: dict[str, set[str]] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the call
        answer = super().RegisterResource(request)
        self.waits_for[answer.urn] = set(request.dependencies)
        return answer


@dataclass(frozen=True)
class Deployed:
    """All that a stack created, and its outputs."""

    resources: list[Resource]
    outputs: Mapping[str, Any]
    waits_for: Mapping[str, set[str]]
    """By URN the URNs that a resource names as its dependencies."""

    def before(self, kind: str, name: str) -> set[str]:
        """Everything that exists before a resource is made, each as `type name`."""
        (urn,) = (urn for urn in self.waits_for if _shown(urn) == f"{kind} {name}")
        found: set[str] = set()
        todo = [urn]
        while todo:
            todo += (new := self.waits_for.get(todo.pop(), set()) - found)
            found |= new
        return {_shown(each) for each in found}

    def all(self, kind: str) -> Mapping[str, Resource]:
        """By name those of a type, such as `pubsub/topic:Topic`."""
        return {each.name: each for each in self.resources if each.type == f"gcp:{kind}"}

    def one(self, kind: str, name: str) -> Mapping[str, Any]:
        """The inputs of one resource."""
        return self.all(kind)[name].inputs

    def functions(self) -> Mapping[str, Mapping[str, Any]]:
        """The service configuration of each function."""
        found = self.all("cloudfunctionsv2/function:Function")
        return {name: each.inputs["serviceConfig"] for name, each in found.items()}


def _shown(urn: str) -> str:
    """`storage/bucket:Bucket source` of the URN of a resource of Google's provider."""
    kind, _, name = urn.rpartition("::")
    return f"{kind.rpartition('$')[2].rpartition('::')[2].removeprefix('gcp:')} {name}"


def configuration(stack: str) -> dict[str, Any]:
    """The configuration of an example stack as a program is given it, secrets included."""
    from stack.source import FOLDER

    read = yaml.safe_load((FOLDER.parent / "infra" / f"Pulumi.{stack}.yaml").read_text())["config"]
    told = {
        key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in read.items()
    }
    return told | (SECRETS if stack == "production" else KEYS)


def deploy(told: Mapping[str, Any], recorder: Recorder | None = None) -> Deployed:
    """The stack of a configuration, created on mocks."""
    from stack.platform import Platform
    from stack.settings import read

    settings = read(told, secret=set(told))
    recorder = recorder or Recorder(settings.project)
    monitor = Monitor(recorder)

    async def run() -> Mapping[str, Any]:
        set_mocks(recorder, project="event-platform", stack="test", monitor=monitor)
        outputs = pulumi.Output.from_input(Platform(settings).outputs)
        await wait_for_rpcs()
        return await outputs.future() or {}

    return Deployed(recorder.resources, asyncio.run(run()), monitor.waits_for)
