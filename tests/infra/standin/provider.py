"""The calls of Pulumi's plugin protocol."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc
from pulumi_gcp.provider import ProviderArgs

from . import checks, emulator, package
from .cloud import Cloud
from .emulator import Emulator, GoogleError
from .faults import Failure, failure_of
from .outputs import FUNCTION, LONG_AGO, PROJECT_NUMBER, Settings, inputs_from_id, make_id, outputs_of
from .replacement import is_kept_by_google, replaces
from .wire import SIGNATURE, Properties, is_unknown, to_dict, to_struct, token_of

T = TypeVar("T")
Context = grpc.ServicerContext
BY_BUILD = ("url", "state")
"""Outputs of a function that come with its build."""
DETAILS = "grpc-status-details-bin"
"""The metadata in which gRPC carries details of an error."""
DIFF_NONE, DIFF_SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Answers the engine as Google's provider does."""

    def __init__(self) -> None:
        self._settings = Settings({})
        self._emulator: Emulator | None = None
        folder = os.environ.get("STANDIN_CLOUD")
        self._cloud = Cloud(Path(folder)) if folder else None

    def Handshake(self, request: Any, context: Context) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def Attach(self, request: Any, context: Context) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Context) -> Any:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Context) -> Any:
        plugin = json.loads((package.folder() / "pulumi-plugin.json").read_text())
        return plugin_pb2.PluginInfo(version=plugin["version"])

    def GetMapping(self, request: Any, context: Context) -> Any:
        return provider_pb2.GetMappingResponse()

    def GetMappings(self, request: Any, context: Context) -> Any:
        return provider_pb2.GetMappingsResponse()

    def CheckConfig(self, request: Any, context: Context) -> Any:
        known = {*package.arguments_of(ProviderArgs), "version", "pluginDownloadURL", "skipRegionValidation"}
        wrong = [
            provider_pb2.CheckFailure(property=name, reason=f"{name!r} is not a setting of the provider gcp")
            for name in to_dict(request.news)
            if name not in known
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=wrong)

    def DiffConfig(self, request: Any, context: Context) -> Any:
        changed = [path for path, _ in differences(to_dict(request.olds), to_dict(request.news))]
        return provider_pb2.DiffResponse(changes=DIFF_SOME if changed else DIFF_NONE, diffs=changed)

    def Configure(self, request: Any, context: Context) -> Any:
        given = to_dict(request.args)
        self._settings = Settings({name: value for name, value in given.items() if not is_unknown(value)})
        try:
            self._emulator = Emulator(self._settings.pubsub) if self._settings.pubsub else None
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return provider_pb2.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=True)

    def Check(self, request: Any, context: Context) -> Any:
        token, news = token_of(request.urn), to_dict(request.news)
        try:
            package.classes(token)
        except package.UnknownType as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if package.has_argument(token, "name") and news.get("name") is None:
            named = request.autonaming
            kept = to_dict(request.olds).get("name")
            disabled = provider_pb2.CheckRequest.AutonamingOptions.DISABLE
            if kept is None and request.HasField("autonaming") and named.mode == disabled:
                reason = "missing required argument 'name': automatic naming is off"
                failure = provider_pb2.CheckFailure(property="name", reason=reason)
                return provider_pb2.CheckResponse(inputs=request.news, failures=[failure])
            seed = hashlib.sha256(bytes(request.randomSeed) or os.urandom(8)).hexdigest()[:7]
            own = f"{request.urn.rsplit('::', 1)[-1]}-{seed}".lower()
            news["name"] = kept or named.proposed_name or own
        if failures := checks.check(token, news):
            wrong = [
                provider_pb2.CheckFailure(property=path, reason=f"{path}: {reason}")
                for path, reason in failures
            ]
            return provider_pb2.CheckResponse(inputs=request.news, failures=wrong)
        return provider_pb2.CheckResponse(inputs=to_struct(checks.with_defaults(token, news)))

    def Diff(self, request: Any, context: Context) -> Any:
        token, new = token_of(request.urn), to_dict(request.news)
        old = to_dict(request.old_inputs)
        ignored = set(request.ignoreChanges)
        found = [
            (path, kind)
            for path, kind in _changes(token, to_dict(request.olds), old, new)
            if path not in ignored and _top(path) not in ignored
        ]
        response = provider_pb2.DiffResponse(hasDetailedDiff=True, changes=DIFF_SOME if found else DIFF_NONE)
        for path, kind in found:
            anew = replaces(token, path)
            word = kind.upper() + ("_REPLACE" if anew else "")
            response.detailedDiff[path].kind = provider_pb2.PropertyDiff.Kind.Value(word)
            response.detailedDiff[path].inputDiff = True
            if _top(path) not in response.diffs:
                response.diffs.append(_top(path))
            if anew and _top(path) not in response.replaces:
                response.replaces.append(_top(path))
        same_name = "name" not in response.replaces and old.get("name") == new.get("name")
        response.deleteBeforeReplace = bool(response.replaces) and same_name
        return response

    def Create(self, request: Any, context: Context) -> Any:
        token, inputs = token_of(request.urn), to_dict(request.properties)
        if request.preview:
            unknown = outputs_of(token, request.urn, inputs, self._settings, "", preview=True)
            return provider_pb2.CreateResponse(id="", properties=to_struct(unknown))
        if (
            not inputs.get("project")
            and package.has_argument(token, "project")
            and not self._settings.project
        ):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "project: required field is not set")
        identity = make_id(token, request.urn, inputs, self._settings)
        failure = self._failure_of("create", token, request.urn, identity, inputs)
        if failure is not None and not failure.half_way:
            context.abort(grpc.StatusCode.UNKNOWN, failure.error)
        if self._emulator and token in emulator.TYPES:
            self._try(context, self._emulator.create, token, identity, inputs, self._settings)
        now = datetime.now(UTC).isoformat()
        made = outputs_of(
            token, request.urn, inputs, self._settings, identity, created=now if self._cloud else LONG_AGO
        )
        if failure is not None:
            assert self._cloud is not None
            if token != FUNCTION:  # the provider forgets the id
                self._cloud.make(token, identity, inputs, remembered=False)
                context.abort(grpc.StatusCode.UNKNOWN, failure.error)
            self._cloud.make(token, identity, inputs, works=False)
            _fail_initialization(context, identity, _never_built(made), failure.error)
        if self._cloud:
            self._cloud.make(token, identity, inputs)
        return provider_pb2.CreateResponse(id=identity, properties=to_struct(made))

    def Update(self, request: Any, context: Context) -> Any:
        token, news = token_of(request.urn), to_dict(request.news)
        olds, old_inputs = to_dict(request.olds), to_dict(request.old_inputs)
        made = outputs_of(token, request.urn, news, self._settings, request.id, preview=request.preview)
        fresh = {
            *old_inputs,
            *news,
            "pulumiLabels",
            "effectiveLabels",
            *(BY_BUILD if token == FUNCTION else ()),
        }
        kept = {name: value for name, value in olds.items() if name not in fresh}
        result = {**made, **kept}
        if request.preview:
            return provider_pb2.UpdateResponse(properties=to_struct(result))
        # After a failure the engine updates again. Where nothing differs, Google is asked nothing.
        changed = {_top(path) for path, _ in _changes(token, olds, old_inputs, news)}
        if self._cloud and not changed:
            return provider_pb2.UpdateResponse(properties=to_struct(olds))
        if failure := self._failure_of("update", token, request.urn, request.id, news, changed):
            # What was asked for is in the state from now on, though Google has what it had before.
            _fail_initialization(context, request.id, result, failure.error)
        if self._emulator and token in emulator.TYPES:
            self._try(context, self._emulator.update, token, request.id, news, old_inputs, self._settings)
        if self._cloud:
            self._cloud.update(token, request.id, news, changed)
        return provider_pb2.UpdateResponse(properties=to_struct(result))

    def Read(self, request: Any, context: Context) -> Any:
        token = token_of(request.urn)
        on_emulator = self._emulator if token in emulator.TYPES else None
        if on_emulator and self._try(context, on_emulator.call, "GET", request.id) is None:
            return provider_pb2.ReadResponse()
        if not request.properties.fields:
            inputs = inputs_from_id(token, request.id)
            state = outputs_of(token, request.urn, inputs, self._settings, request.id)
            return provider_pb2.ReadResponse(
                id=request.id, properties=to_struct(state), inputs=to_struct(inputs)
            )
        if self._cloud:
            return self._read_from_cloud(self._cloud, token, request)
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request: Any, context: Context) -> Any:
        token, state = token_of(request.urn), to_dict(request.properties)
        if state.get("deletionPolicy") == "PREVENT" or state.get("deletionProtection") is True:
            reason = f"cannot destroy {request.id}: deletion is prevented by its settings"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        if self._emulator and token in emulator.TYPES and state.get("deletionPolicy") != "ABANDON":
            self._try(context, self._emulator.call, "DELETE", request.id)
        if self._cloud:
            self._cloud.delete(token, request.id)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Context) -> Any:
        given = to_dict(request.args)
        project = given.get("projectId") or given.get("project") or self._settings.project
        region = given.get("region") or self._settings.region
        answers: dict[str, Properties] = {
            "getProject": {
                "id": f"projects/{project}",
                "projectId": project,
                "number": PROJECT_NUMBER,
                "name": project,
                "labels": {},
            },
            "getClientConfig": {
                "id": f"projects/{project}",
                "project": project,
                "region": region,
                "zone": "",
                "accessToken": "x",
            },
        }
        answer = answers.get(request.tok.rsplit(":", 1)[-1])
        if answer is None:
            reason = f"the stand-in provider has no answer for {request.tok}"
            context.abort(grpc.StatusCode.UNIMPLEMENTED, reason)
            raise AssertionError  # abort raises
        # `return` is a keyword of Python, and the name of this field.
        return provider_pb2.InvokeResponse(**{"return": to_struct({**given, **answer})})  # pyright: ignore

    def _failure_of(
        self,
        call: str,
        token: str,
        urn: str,
        identity: str,
        inputs: Properties,
        changed: Collection[str] = (),
    ) -> Failure | None:
        if self._cloud is None:
            return None
        return failure_of(self._cloud, call, token, urn, identity, inputs, changed)

    def _read_from_cloud(self, cloud: Cloud, token: str, request: Any) -> Any:
        made = cloud.find(token, request.id)
        if made is None:
            return provider_pb2.ReadResponse()
        state, inputs, there = to_dict(request.properties), to_dict(request.inputs), dict(made.inputs)
        if token == FUNCTION:
            # Google's answer names a copy of the archive, so the provider keeps what the state says.
            build = {**there["buildConfig"], "source": state["buildConfig"]["source"]}
            there = {**there, "buildConfig": build}
        fresh = {name: value for name, value in there.items() if name in inputs}
        service = {"serviceConfig": {**state.get("serviceConfig", {}), **there.get("serviceConfig", {})}}
        state = {**state, **fresh, **(service if token == FUNCTION else {})}
        return provider_pb2.ReadResponse(
            id=request.id, properties=to_struct(state), inputs=to_struct({**inputs, **fresh})
        )

    @staticmethod
    def _try(context: Context, action: Callable[..., T], *arguments: Any) -> T:
        try:
            return action(*arguments)
        except (GoogleError, OSError) as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Returns path and kind (`add`, `delete`, `update`) of every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict) and SIGNATURE not in old and SIGNATURE not in new:
        for key in sorted({*old, *new} - {"__defaults"}):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one, other = (items[index] if index < len(items) else None for items in (old, new))
            yield from differences(one, other, f"{path}[{index}]")
    elif (
        isinstance(old, dict) and isinstance(new, dict) and old.get("hash") and old["hash"] == new.get("hash")
    ):
        return
    elif old != new:
        yield path, "add" if old is None else "delete" if new is None else "update"


def _changes(token: str, outputs: Properties, old: Properties, new: Properties) -> Sequence[tuple[str, str]]:
    """Returns what a deployment changes, as `differences`.

    Google's provider compares with its last answer, the outputs. The engine's old inputs may be older: after
    an update that failed, the state has the inputs from before and the outputs that were asked for.
    """
    before = {name: outputs.get(name, old.get(name)) for name in old | new}
    return [
        (path, kind)
        for path, kind in differences(before, new)
        if kind != "delete" or (_at(old, path) is not None and not is_kept_by_google(token, path))
    ]


def _top(path: str) -> str:
    return re.split(r"[.\[]", path)[0]


def _at(value: Any, path: str) -> Any:
    """Returns the value at a path such as `rules[0].match`, or None."""
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, list):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _never_built(outputs: Properties) -> Properties:
    """Returns the outputs of a function without those that come with its service."""
    service = {
        name: value for name, value in outputs["serviceConfig"].items() if name not in ("uri", "service")
    }
    return {**outputs, "serviceConfig": service, "url": "", "state": "FAILED"}


def _fail_initialization(context: Context, identity: str, outputs: Properties, reason: str) -> NoReturn:
    """Fails a call after which the engine keeps the resource, as Pulumi's bridge to Terraform does."""
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(id=identity, properties=to_struct(outputs), reasons=[reason])
    )
    code = grpc.StatusCode.UNKNOWN
    status = status_pb2.Status(code=code.value[0], message=reason, details=[detail])
    context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
    context.abort(code, reason)
