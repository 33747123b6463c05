"""The stand-in for Google's provider: what it refuses, replaces and leaves behind when a call fails.

Each test calls it as the engine does, without the Pulumi CLI.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from pulumi.runtime.proto import provider_pb2

from standin import package
from standin.cloud import Cloud
from standin.outputs import FUNCTION
from standin.provider import Provider
from standin.replacement import REPLACED_BY, replaces
from standin.wire import to_dict, to_struct

PROJECT = "my-event-platform"
TOPIC = "gcp:pubsub/topic:Topic"
METRIC = "gcp:logging/metric:Metric"
ALERT = "gcp:monitoring/alertPolicy:AlertPolicy"
INVOKER = "gcp:cloudrunv2/serviceIamMember:ServiceIamMember"
GRANT = "gcp:projects/iAMMember:IAMMember"
AGENT = "gcp:projects/serviceIdentity:ServiceIdentity"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
TOPIC_GRANT = "gcp:pubsub/topicIAMMember:TopicIAMMember"
PUBSUB = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"


class Aborted(Exception):
    """Raised by a call that failed; `kept` is what the engine keeps of the resource."""

    def __init__(self, reason: str, kept: Any = None) -> None:
        super().__init__(reason)
        self.kept = kept


class Context:
    """The context of a call, whose errors are exceptions."""

    def __init__(self) -> None:
        self._kept: Any = None

    def set_trailing_metadata(self, metadata: Any) -> None:
        status = status_pb2.Status.FromString(dict(metadata)["grpc-status-details-bin"])
        self._kept = provider_pb2.ErrorResourceInitFailed()
        status.details[0].Unpack(self._kept)

    def abort(self, code: grpc.StatusCode, reason: str) -> None:
        kept, self._kept = self._kept, None
        raise Aborted(reason, kept)


class Engine:
    """Calls the provider, and keeps the state of each resource as the engine does."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.context: Any = Context()
        self.states: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
        """Id, inputs and outputs by URN."""
        config = provider_pb2.ConfigureRequest(args=to_struct({"project": PROJECT, "region": "europe-west1"}))
        self.provider.Configure(config, self.context)

    def up(self, token: str, name: str, inputs: Mapping[str, Any]) -> str:
        """Creates or updates a resource as `pulumi up` does, and returns what it did."""
        urn = f"urn:pulumi:test::event-platform::{token}::{name}"
        wanted = to_struct(dict(inputs))
        if urn not in self.states:
            return self._create(urn, wanted)
        identity, old_inputs, outputs = self.states[urn]
        olds, before = to_struct(outputs), to_struct(old_inputs)
        diffed = provider_pb2.DiffRequest(id=identity, urn=urn, news=wanted, olds=olds, old_inputs=before)
        diff = self.provider.Diff(diffed, self.context)
        updated = provider_pb2.UpdateRequest(id=identity, urn=urn, news=wanted, olds=olds, old_inputs=before)
        try:
            response = self.provider.Update(updated, self.context)
        except Aborted as error:
            self.states[urn] = (identity, old_inputs, to_dict(error.kept.properties))
            raise
        self.states[urn] = (identity, to_dict(wanted), to_dict(response.properties))
        return "update" if diff.changes == provider_pb2.DiffResponse.DIFF_SOME else "same"

    def refresh(self, token: str, name: str) -> None:
        """Reads a resource anew."""
        urn = f"urn:pulumi:test::event-platform::{token}::{name}"
        identity, inputs, outputs = self.states[urn]
        request = provider_pb2.ReadRequest(
            id=identity, urn=urn, properties=to_struct(outputs), inputs=to_struct(inputs)
        )
        response = self.provider.Read(request, self.context)
        self.states[urn] = (identity, to_dict(response.inputs), to_dict(response.properties))

    def outputs(self, name: str) -> Mapping[str, Any]:
        """Returns what the state has of a resource."""
        return next(state[2] for urn, state in self.states.items() if urn.endswith(f"::{name}"))

    def _create(self, urn: str, wanted: Any) -> str:
        try:
            response = self.provider.Create(
                provider_pb2.CreateRequest(urn=urn, properties=wanted), self.context
            )
        except Aborted as error:
            if error.kept is not None:
                self.states[urn] = (error.kept.id, to_dict(wanted), to_dict(error.kept.properties))
            raise
        self.states[urn] = (response.id, to_dict(wanted), to_dict(response.properties))
        return "create"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("STANDIN_CLOUD", str(tmp_path))
    monkeypatch.delenv("STANDIN_RULES", raising=False)
    return Cloud(tmp_path)


@pytest.fixture
def engine(cloud: Cloud) -> Engine:
    return Engine()


def email(name: str) -> str:
    return f"aep-{name}@{PROJECT}.iam.gserviceaccount.com"


def function(archive: str, memory: str = "1Gi") -> Mapping[str, Any]:
    """The inputs of a function."""
    return {
        "name": "deliver",
        "location": "europe-west1",
        "buildConfig": {
            "serviceAccount": f"projects/{PROJECT}/serviceAccounts/{email('builder')}",
            "source": {"storageSource": {"bucket": "source", "object": archive}},
        },
        "serviceConfig": {
            "serviceAccountEmail": email("deliver"),
            "availableMemory": memory,
            "environmentVariables": {"AEP_ARCHIVE": archive},
        },
    }


def check(token: str, inputs: Mapping[str, Any]) -> list[str]:
    """Returns the reasons for which inputs are refused."""
    request = provider_pb2.CheckRequest(urn=f"urn:pulumi:t::e::{token}::it", news=to_struct(dict(inputs)))
    context: Any = Context()
    return [failure.reason for failure in Provider().Check(request, context).failures]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lables": {}}, "lables: an argument named 'lables' is not expected here"),
        ({"build_config": {}}, "did you mean 'buildConfig'?"),
        ({"buildConfig": {"runtime": 3}}, "buildConfig.runtime: expected a string, got 3"),
        ({"location": None}, "location: missing required argument 'location'"),
    ],
)
def test_a_wrong_argument_is_named(changed: Mapping[str, Any], reason: str) -> None:
    given = {key: value for key, value in {**function("v1.zip"), **changed}.items() if value is not None}
    (found,) = check(FUNCTION, given)
    assert reason in found


def test_rules_from_a_file_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from standin import checks

    rules = {
        FUNCTION: {"serviceConfig.availableMemory": {"enum": ["1Gi"]}, "labels": {"default": {"a": "b"}}}
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    monkeypatch.setenv("STANDIN_RULES", str(tmp_path / "rules.json"))
    checks.all_rules.cache_clear()
    request.addfinalizer(checks.all_rules.cache_clear)
    assert check(FUNCTION, function("v1.zip")) == []
    (reason,) = check(FUNCTION, function("v1.zip", memory="1G"))
    assert "expected serviceConfig.availableMemory to be one of ['1Gi'], got 1G" in reason


@pytest.mark.parametrize("token", REPLACED_BY)
def test_what_forces_a_replacement_are_arguments_of_the_package(token: str) -> None:
    arguments = package.arguments_of(package.classes(f"gcp:{token}")[1])
    assert REPLACED_BY[token] - {"*"} <= set(arguments)


def test_a_certificate_is_replaced_for_another_domain_and_a_function_changed_in_place(cloud: Cloud) -> None:
    assert replaces("gcp:compute/managedSslCertificate:ManagedSslCertificate", "managed.domains[0]")
    assert replaces(FUNCTION, "location")
    assert not replaces(FUNCTION, "buildConfig.source.storageSource.object")
    assert not replaces("gcp:compute/address:Address", "labels.team")


def test_a_build_that_fails_in_creation_leaves_a_function_that_is_taken_for_made(
    engine: Engine, cloud: Cloud
) -> None:
    cloud.write_plan(faults=[{"type": FUNCTION.removeprefix("gcp:"), "how": "half-way"}])
    with pytest.raises(Aborted, match="Error waiting for Creating function: Error code 3"):
        engine.up(FUNCTION, "deliver", function("v1.zip"))
    assert engine.up(FUNCTION, "deliver", function("v1.zip")) == "same"
    assert cloud.archives() == {"deliver": None}
    assert not engine.outputs("deliver")["serviceConfig"].get("uri")
    invoker = {
        "name": "deliver",
        "location": "europe-west1",
        "role": "roles/run.invoker",
        "member": "allUsers",
    }
    with pytest.raises(Aborted, match="404: Resource 'deliver' of kind 'SERVICE'"):
        engine.up(INVOKER, "deliver-invoker", invoker)

    assert engine.up(FUNCTION, "deliver", function("v1-2.zip")) == "update"
    assert cloud.archives() == {"deliver": "v1-2.zip"}
    assert engine.outputs("deliver")["serviceConfig"]["uri"]
    engine.up(INVOKER, "deliver-invoker", invoker)


def test_a_build_that_fails_in_a_release_leaves_the_new_archive_in_the_state(
    engine: Engine, cloud: Cloud
) -> None:
    engine.up(FUNCTION, "deliver", function("v1.zip"))
    cloud.write_plan(faults=[{"type": FUNCTION.removeprefix("gcp:"), "call": "update", "how": "half-way"}])
    with pytest.raises(Aborted, match="Error waiting for Updating function"):
        engine.up(FUNCTION, "deliver", function("v2.zip"))
    assert engine.up(FUNCTION, "deliver", function("v2.zip")) == "same"
    assert cloud.archives() == {"deliver": "v1.zip"}
    engine.refresh(FUNCTION, "deliver")
    for _ in range(2):  # only settings differ now, or the memory: the code of before does not start with them
        with pytest.raises(Aborted, match="Container Healthcheck failed"):
            engine.up(FUNCTION, "deliver", function("v2.zip"))
        engine.refresh(FUNCTION, "deliver")
    assert cloud.archives() == {"deliver": "v1.zip"}

    assert engine.up(FUNCTION, "deliver", function("v2-2.zip")) == "update"
    assert cloud.archives() == {"deliver": "v2-2.zip"}


def test_any_other_update_that_fails_is_seen_by_a_refresh(engine: Engine, cloud: Cloud) -> None:
    engine.up(TOPIC, "events", {"name": "events", "messageRetentionDuration": "600s"})
    cloud.write_plan(faults=[{"type": "pubsub/topic:Topic", "how": "refused", "error": "Error 403: no"}])
    longer = {"name": "events", "messageRetentionDuration": "1200s"}
    with pytest.raises(Aborted, match="Error 403: no"):
        engine.up(TOPIC, "events", longer)
    assert engine.up(TOPIC, "events", longer) == "same"
    engine.refresh(TOPIC, "events")
    assert engine.up(TOPIC, "events", longer) == "update"


def test_any_other_creation_that_fails_half_way_is_forgotten(engine: Engine, cloud: Cloud) -> None:
    cloud.write_plan(faults=[{"type": "pubsub/topic:Topic", "how": "half-way", "times": 1}])
    for expected in ("Error 500", "Error 409: Resource 'projects/my-event-platform/topics/events'"):
        with pytest.raises(Aborted, match=expected):
            engine.up(TOPIC, "events", {"name": "events"})
    assert cloud.plan() == {"faults": []}


def test_a_repository_of_images_that_was_there_before_is_refused_until_it_is_gone(
    engine: Engine, cloud: Cloud
) -> None:
    images = {"repositoryId": "gcf-artifacts", "location": "europe-west1", "format": "DOCKER"}
    identity = f"projects/{PROJECT}/locations/europe-west1/repositories/gcf-artifacts"
    cloud.make(REPOSITORY, identity, images, remembered=False)
    with pytest.raises(Aborted, match=f"Error 409: Resource '{identity}' already exists"):
        engine.up(REPOSITORY, "images", images)
    cloud.delete(REPOSITORY, identity)  # as gcloud does
    assert engine.up(REPOSITORY, "images", images) == "create"


def test_a_function_fails_until_the_rights_of_its_accounts_are_in_force(engine: Engine, cloud: Cloud) -> None:
    cloud.write_plan(ready_after={"rights": 60})
    for name, account, reason in (
        ("build", "builder", "missing permission on the build service account"),
        ("read", "deliver", "Permission denied on secret"),
    ):
        member = f"serviceAccount:{email(account)}"
        engine.up(GRANT, name, {"project": PROJECT, "role": f"roles/{name}", "member": member})
        with pytest.raises(Aborted, match=reason):
            engine.up(FUNCTION, f"deliver-{name}", function("v1.zip"))
        grow_older(cloud, 60)
    assert engine.up(FUNCTION, "deliver", function("v1.zip")) == "create"


def test_an_alert_is_refused_until_its_metric_is_known(engine: Engine, cloud: Cloud) -> None:
    cloud.write_plan(ready_after={"metrics": 60})
    metric = "logging.googleapis.com/user/event_platform/ends"
    condition = {"displayName": "x", "conditionThreshold": {"filter": f'metric.type="{metric}" x="y"'}}
    alert = {"displayName": "x", "combiner": "OR", "conditions": [condition]}
    engine.up(METRIC, "ends", {"name": "event_platform/ends", "filter": "x"})
    with pytest.raises(Aborted, match=f'Error 404: Cannot find metric that matches type = "{metric}"'):
        engine.up(ALERT, "ends", alert)
    grow_older(cloud, 60)
    assert engine.up(ALERT, "ends", alert) == "create"


def test_googles_own_account_is_unknown_until_it_was_asked_for(engine: Engine, cloud: Cloud) -> None:
    cloud.write_plan(ready_after={"agents": 0})
    grant = {"topic": "dead-letters", "role": "roles/pubsub.publisher", "member": PUBSUB}
    with pytest.raises(Aborted, match="Error 400: Service account service-123456789012@gcp-sa-pubsub"):
        engine.up(TOPIC_GRANT, "dead-letters-pubsub", grant)
    engine.up(AGENT, "pubsub", {"service": "pubsub.googleapis.com"})
    assert engine.outputs("pubsub")["member"] == PUBSUB
    assert engine.up(TOPIC_GRANT, "dead-letters-pubsub", grant) == "create"


def grow_older(cloud: Cloud, seconds: float) -> None:
    """Makes all that exists older."""
    for made in list(cloud.all()):
        made.since -= seconds
        cloud.write(made)
