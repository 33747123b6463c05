"""Who may call whom, what each part is given, and that all of it fits the code that is deployed."""

import ast
import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.routing import compile_path

from aep.doctor.release import StackOutputs
from aep.google.functions_on_emulators import FUNCTIONS
from event_platform import settings, wiring
from event_platform.data_model import EXPIRING, INDEXES, UNINDEXED
from event_platform.deliver.routes import PATH as DELIVERIES_PATH
from event_platform.domain.tenants import tenant_key
from event_platform.fanout.routes import EVENTS_PATH, PIM_EVENTS_PATH
from event_platform.ingest.credentials import SIGNED_BODY_LIMIT
from event_platform.notify.routes import PATH as NOTIFICATIONS_PATH
from event_platform.permissions import (
    DELIVERIES_TOPICS,
    ENTITIES_CREATE,
    PERMISSIONS,
    PUBLISHES_TO,
    TOPICS_PUBLISH,
)
from stack.alerts import ALERTS, Figure
from stack.environment import SECRETS as SECRET_NAMES
from stack.front_door import certificate_name
from stack.function import RUNTIME
from stack.source import FOLDER, PACKED_AS, archive_name, digest, files
from support.deployed import FEED_KEY, PROJECT_NUMBER, SECRETS, Deployed, configuration, deploy

PUBSUB = f"serviceAccount:service-{PROJECT_NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
PROJECT = "my-event-platform"
PATHS = {
    "fanout": [EVENTS_PATH, PIM_EVENTS_PATH],
    "deliver": [DELIVERIES_PATH],
    "notify": [NOTIFICATIONS_PATH],
}
FIGURES = [alert.condition for alert in ALERTS if isinstance(alert.condition, Figure)]
PIM_TOPIC = f"pim-events-{tenant_key('https://pim.example.com')}"


def account(name: str) -> str:
    return f"serviceAccount:{email(name)}"


def email(name: str) -> str:
    return f"aep-{name}@{PROJECT}.iam.gserviceaccount.com"


def publishers(stack: Deployed) -> Mapping[str, set[str]]:
    """By topic who may publish there."""
    found: dict[str, set[str]] = {}
    for each in stack.all("pubsub/topicIAMMember:TopicIAMMember").values():
        assert each.inputs["role"] == "roles/pubsub.publisher"
        found.setdefault(each.inputs["topic"], set()).add(each.inputs["member"])
    return found


def pushes(stack: Deployed) -> Mapping[str, Mapping[str, Any]]:
    """The push subscriptions by name."""
    found = stack.all("pubsub/subscription:Subscription")
    return {name: each.inputs for name, each in found.items() if "pushConfig" in each.inputs}


def test_the_six_functions_are_deployed_by_their_names_in_main(stack: Deployed) -> None:
    main = ast.parse((FOLDER / "main.py").read_text())
    defined = {node.name for node in main.body if isinstance(node, ast.AsyncFunctionDef)}
    deployed = stack.all("cloudfunctionsv2/function:Function")
    assert set(deployed) == defined == set(wiring.SETTINGS)
    assert all(each.inputs["buildConfig"]["entryPoint"] == name for name, each in deployed.items())


@pytest.mark.parametrize("function", wiring.SETTINGS)
def test_a_function_starts_with_what_it_is_given(
    stack: Deployed, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AEP_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    config = stack.functions()[function]
    secrets = stack.all("secretmanager/secretVersion:SecretVersion")
    for variable, value in config["environmentVariables"].items():
        monkeypatch.setenv(variable, value)
    for variable in config.get("secretEnvironmentVariables", []):
        sealed = secrets[variable["secret"]].inputs["secretData"]  # marked as a secret, or this fails
        monkeypatch.setenv(variable["key"], sealed["value"])
    wiring.check(function)


def test_a_function_is_given_nothing_that_it_does_not_read(stack: Deployed) -> None:
    for name, config in stack.functions().items():
        sealed = {variable["key"] for variable in config.get("secretEnvironmentVariables", [])}
        fields = wiring.SETTINGS[name].model_fields
        read = {str(field.validation_alias or f"AEP_{key.upper()}") for key, field in fields.items()}
        assert set(config["environmentVariables"]) | sealed <= read, name


def test_what_a_function_knows_of_secrets_is_what_it_reads(production: Deployed) -> None:
    readers = {
        each.inputs["member"]: set[str]()
        for each in production.all("secretmanager/secretIamMember:SecretIamMember").values()
    }
    for each in production.all("secretmanager/secretIamMember:SecretIamMember").values():
        assert each.inputs["role"] == "roles/secretmanager.secretAccessor"
        readers[each.inputs["member"]].add(each.inputs["secretId"].removesuffix("-id"))
    given = {
        account(name): {variable["secret"] for variable in config.get("secretEnvironmentVariables", [])}
        for name, config in production.functions().items()
    }
    assert readers == {member: secrets for member, secrets in given.items() if secrets}


def test_each_function_gets_the_secrets_that_it_reads_and_no_other(production: Deployed) -> None:
    given = {
        name: {each["key"]: each["secret"] for each in config.get("secretEnvironmentVariables", [])}
        for name, config in production.functions().items()
    }
    assert given == {
        "manage": {"AEP_SECRETS_KEY": "aep-secrets-key", "AEP_PIMS": "aep-pims-without-secrets"},
        "ingest": {"AEP_REGISTRY_KEY": "aep-registry-key", "AEP_PIMS": "aep-pims"},
        "fanout": {"AEP_PIMS": "aep-pims-without-secrets"},
        "deliver": {"AEP_SECRETS_KEY": "aep-secrets-key"},
        "maintain": {"AEP_PIMS": "aep-pims-without-secrets"},
        "notify": {"AEP_SECRETS_KEY": "aep-secrets-key", "AEP_SMTP_URL": "aep-smtp-url"},
    }
    values = production.all("secretmanager/secretVersion:SecretVersion")
    public = values["aep-pims-without-secrets"].inputs["secretData"]["value"]
    assert [pim["url"] for pim in json.loads(public)] == ["https://pim.example.com"]
    assert "the-ingest-key-of-tests" not in public
    assert "the-ingest-key-of-tests" in values["aep-pims"].inputs["secretData"]["value"]


def test_no_secret_stands_in_plain_text(production: Deployed) -> None:
    for config in production.functions().values():
        assert not set(config["environmentVariables"]) & set(SECRET_NAMES)
        assert not set(config["environmentVariables"].values()) & set(SECRETS.values())


def test_each_function_is_granted_its_permissions_and_no_other(stack: Deployed) -> None:
    roles = {
        f"projects/{PROJECT}/roles/{each.inputs['roleId']}": set(each.inputs["permissions"])
        for each in stack.all("projects/iAMCustomRole:IAMCustomRole").values()
    }
    granted = {name: set[str]() for name in PERMISSIONS}
    for each in stack.all("projects/iAMMember:IAMMember").values():
        for name in granted:
            if each.inputs["member"] == account(name):
                granted[name] |= roles[each.inputs["role"]]
    for members in publishers(stack).values():
        for name in granted:
            if account(name) in members:
                granted[name].add(TOPICS_PUBLISH)
    assert granted == PERMISSIONS


def test_roles_get_another_id_where_the_first_was_deleted_weeks_ago() -> None:
    stack = deploy({**configuration("minimal"), "event-platform:roleSuffix": "2"})
    roles = stack.all("projects/iAMCustomRole:IAMCustomRole").values()
    assert {role.inputs["roleId"][-1] for role in roles} == {"2"}


def test_only_who_writes_to_a_topic_may_publish_there(stack: Deployed) -> None:
    for topic, members in publishers(stack).items():
        written = DELIVERIES_TOPICS if topic.startswith(f"{DELIVERIES_TOPICS}-") else topic
        wanted = {account(name) for name, topics in PUBLISHES_TO.items() if written in topics}
        if topic == "dead-letters":
            wanted.add(PUBSUB)
        if topic == PIM_TOPIC:
            wanted.add("serviceAccount:pim@pim-project.iam.gserviceaccount.com")
        assert members == wanted, topic


def test_only_manage_and_ingest_are_public(stack: Deployed) -> None:
    invokers = stack.all("cloudrunv2/serviceIamMember:ServiceIamMember").values()
    assert {each.inputs["role"] for each in invokers} == {"roles/run.invoker"}
    assert {each.inputs["name"]: each.inputs["member"] for each in invokers} == {
        "manage": "allUsers",
        "ingest": "allUsers",
        **{name: account(f"call-{name}") for name in ("fanout", "deliver", "maintain", "notify")},
    }


def test_an_organisation_that_refuses_all_users_is_not_asked_to_take_them() -> None:
    stack = deploy({**configuration("minimal"), "event-platform:allUsers": "false"})
    invokers = stack.all("cloudrunv2/serviceIamMember:ServiceIamMember").values()
    assert {each.inputs["name"] for each in invokers} == {"fanout", "deliver", "maintain", "notify"}


def test_what_is_private_is_reached_from_inside_alone(production: Deployed, minimal: Deployed) -> None:
    for stack, public in ((production, "ALLOW_INTERNAL_AND_GCLB"), (minimal, "ALLOW_ALL")):
        for name, config in stack.functions().items():
            wanted = public if name in ("manage", "ingest") else "ALLOW_INTERNAL_ONLY"
            assert config["ingressSettings"] == wanted, name


def test_each_topic_is_pushed_to_a_route_of_its_function(stack: Deployed) -> None:
    topics = set(stack.all("pubsub/topic:Topic")) - {"dead-letters"}
    assert set(pushes(stack)) == topics
    for name, push in pushes(stack).items():
        assert push["topic"] == f"{name}-id"
        endpoint = urlsplit(push["pushConfig"]["pushEndpoint"])
        function = (endpoint.hostname or "").partition("-")[0]
        assert any(compile_path(path)[0].match(endpoint.path) for path in PATHS[function]), endpoint.path
    paths = {name: urlsplit(push["pushConfig"]["pushEndpoint"]).path for name, push in pushes(stack).items()}
    assert paths["events"] == "/events"
    assert paths["deliveries-0"] == "/deliveries-0"
    assert paths["notifications"] == "/notifications"


def test_every_push_proves_who_calls(stack: Deployed) -> None:
    for push in pushes(stack).values():
        endpoint = urlsplit(push["pushConfig"]["pushEndpoint"])
        function = (endpoint.hostname or "").partition("-")[0]
        assert push["pushConfig"]["oidcToken"] == {
            "serviceAccountEmail": email(f"call-{function}"),
            "audience": f"https://{endpoint.hostname}",
        }


def test_every_push_subscription_is_as_designed(stack: Deployed) -> None:
    for name, push in pushes(stack).items():
        assert push["enableMessageOrdering"] is name.startswith("deliveries-"), name
        assert push["ackDeadlineSeconds"] == 60
        assert push["retryPolicy"] == {"minimumBackoff": "1s", "maximumBackoff": "60s"}
        assert push["deadLetterPolicy"] == {"deadLetterTopic": "dead-letters-id", "maxDeliveryAttempts": 100}
        assert push["messageRetentionDuration"] == "604800s"
        assert push["expirationPolicy"] == {"ttl": ""}


def test_the_topics_of_events_keep_messages_for_a_day_and_no_other_does(production: Deployed) -> None:
    topics = production.all("pubsub/topic:Topic")
    kept = {name: each.inputs.get("messageRetentionDuration") for name, each in topics.items()}
    assert {name: time for name, time in kept.items() if time} == {"events": "86400s", PIM_TOPIC: "86400s"}


@pytest.mark.parametrize(("keep", "retention"), [("0", None), ("7200", "7200s")])
def test_topics_keep_messages_for_as_long_as_the_setting_says(keep: str, retention: str | None) -> None:
    changed = {"event-platform:settings": json.dumps({"AEP_KEEP": keep})}
    stack = deploy({**configuration("minimal"), **changed})
    assert stack.one("pubsub/topic:Topic", "events").get("messageRetentionDuration") == retention


def test_pubsub_may_move_what_failed_to_the_dead_letters(stack: Deployed) -> None:
    rights = stack.all("pubsub/subscriptionIAMMember:SubscriptionIAMMember").values()
    assert {each.inputs["subscription"] for each in rights} == set(pushes(stack))
    assert {(each.inputs["role"], each.inputs["member"]) for each in rights} == {
        ("roles/pubsub.subscriber", PUBSUB)
    }


def test_dead_letters_are_kept_for_an_operator(stack: Deployed) -> None:
    kept = stack.one("pubsub/subscription:Subscription", "dead-letters")
    assert kept["topic"] == "dead-letters-id"
    assert kept["expirationPolicy"] == {"ttl": ""}
    assert "deadLetterPolicy" not in kept


def test_a_pim_with_its_own_topic_publishes_there_alone(production: Deployed, minimal: Deployed) -> None:
    pim = "serviceAccount:pim@pim-project.iam.gserviceaccount.com"
    assert [topic for topic, members in publishers(production).items() if pim in members] == [PIM_TOPIC]
    assert not [topic for topic in minimal.all("pubsub/topic:Topic") if topic.startswith("pim-events-")]


def test_there_is_room_for_what_pubsub_has_outstanding(production: Deployed, minimal: Deployed) -> None:
    for stack, deliveries, events in ((production, 2 * 3000, 3000), (minimal, 300, 300)):
        functions = stack.functions()
        for config in functions.values():
            assert config["maxInstanceRequestConcurrency"] > 1
            assert config["availableCpu"] == "1"
        for name, outstanding in (("deliver", deliveries), ("fanout", events)):
            config = functions[name]
            room = config["maxInstanceCount"] * config["maxInstanceRequestConcurrency"]
            assert 1.5 * outstanding <= room < 1.5 * outstanding + config["maxInstanceRequestConcurrency"]
        assert functions["deliver"]["maxInstanceRequestConcurrency"] == 250


def test_ingest_has_the_memory_for_the_greatest_requests_at_once(stack: Deployed) -> None:
    config = stack.functions()["ingest"]
    assert config["availableMemory"] == "1Gi"
    held = 1.5 * SIGNED_BODY_LIMIT  # what is kept of one
    reads_one, process = 10 * SIGNED_BODY_LIMIT, 150 * 2**20
    assert config["maxInstanceRequestConcurrency"] * held + reads_one + process <= 2**30


def test_ingest_and_who_waits_for_a_network_wait_warm_in_production_and_nothing_does_in_the_minimal_stack(
    production: Deployed, minimal: Deployed
) -> None:
    warm = {name: config["minInstanceCount"] for name, config in production.functions().items()}
    assert {name: count for name, count in warm.items() if count} == {"ingest": 1, "manage": 1, "deliver": 1}
    assert not any(config["minInstanceCount"] for config in minimal.functions().values())


def test_fanout_names_the_address_of_manage(production: Deployed, minimal: Deployed) -> None:
    def told(stack: Deployed) -> str:
        return stack.functions()["fanout"]["environmentVariables"]["AEP_PUBLIC_URL"]

    assert told(minimal) == "https://manage-abc.a.run.app"
    assert told(production) == "https://events.example.com"


def test_the_database_has_every_index_lifetime_and_exemption_of_the_code(stack: Deployed) -> None:
    indexes = [
        (each.inputs["collection"], tuple((f["fieldPath"], f["order"]) for f in each.inputs["fields"]))
        for each in stack.all("firestore/index:Index").values()
    ]
    assert sorted(indexes) == sorted((index.collection, tuple(index.fields)) for index in INDEXES)
    fields = [each.inputs for each in stack.all("firestore/field:Field").values()]
    unindexed = {(f["collection"], f["field"]) for f in fields if f["indexConfig"] == {}}
    assert unindexed == {(name, field) for name, exempt in UNINDEXED.items() for field in exempt}
    assert {f["collection"] for f in fields if "ttlConfig" in f} == set(EXPIRING)
    assert {f["field"] for f in fields if "ttlConfig" in f} == {"expires_at"}


def test_the_database_is_kept_and_can_go_back_in_time(stack: Deployed) -> None:
    database = stack.one("firestore/database:Database", "store")
    assert database["type"] == "FIRESTORE_NATIVE"
    assert database["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"
    assert database["pointInTimeRecoveryEnablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"
    assert stack.one("firestore/backupSchedule:BackupSchedule", "store-daily")["retention"] == "604800s"


def test_clients_of_firebase_are_refused(stack: Deployed) -> None:
    rules = stack.one("firebaserules/ruleset:Ruleset", "no-clients")["source"]["files"][0]["content"]
    assert "allow read, write: if false;" in rules
    assert stack.one("firebaserules/release:Release", "no-clients")["name"] == "cloud.firestore"


def test_the_schedule_calls_maintain_each_minute_as_its_caller(stack: Deployed) -> None:
    tick = stack.one("cloudscheduler/job:Job", "tick")
    assert tick["schedule"] == "* * * * *"
    assert tick["httpTarget"]["uri"] == "https://maintain-abc.a.run.app/"
    assert tick["httpTarget"]["httpMethod"] == "POST"
    assert tick["httpTarget"]["oidcToken"] == {
        "serviceAccountEmail": email("call-maintain"),
        "audience": "https://maintain-abc.a.run.app",
    }


def test_deliver_and_manage_alone_act_for_the_account_that_destinations_let_in(stack: Deployed) -> None:
    rights = [
        right
        for name, right in stack.all("serviceaccount/iAMMember:IAMMember").items()
        if name.endswith("-acts-for-destinations")
    ]
    assert {right.inputs["role"] for right in rights} == {"roles/iam.serviceAccountTokenCreator"}
    assert {right.inputs["member"] for right in rights} == {account("deliver"), account("manage")}
    everywhere = str([each.inputs for each in stack.resources if "iam" in each.type.lower()])
    assert email("destinations") not in everywhere


def test_maintain_alone_makes_pushes_of_replays_and_acts_as_their_pusher(stack: Deployed) -> None:
    right = stack.one("serviceaccount/iAMMember:IAMMember", "maintain-acts-as-caller-of-fanout")
    assert (right["role"], right["member"]) == ("roles/iam.serviceAccountUser", account("maintain"))
    dead_letters = stack.one("projects/iAMMember:IAMMember", "pubsub-acknowledges-dead-letters-of-replays")
    assert (dead_letters["role"], dead_letters["member"]) == ("roles/pubsub.subscriber", PUBSUB)
    given = stack.functions()["maintain"]["environmentVariables"]
    assert given["AEP_FANOUT_URL"] == "https://fanout-abc.a.run.app"
    assert given["AEP_FANOUT_CALLER"] == email("call-fanout")
    assert [
        name for name, allowed in PERMISSIONS.items() if any("pubsub.subs" in each for each in allowed)
    ] == ["maintain"]


def test_what_calls_out_leaves_from_one_address(production: Deployed, minimal: Deployed) -> None:
    through = {
        name
        for name, config in production.functions().items()
        if config.get("directVpcEgress") == "VPC_EGRESS_ALL_TRAFFIC"
    }
    assert through == {"manage", "deliver", "notify"}
    assert production.one("compute/routerNat:RouterNat", "egress")["natIpAllocateOption"] == "MANUAL_ONLY"
    assert not [each for each in minimal.resources if each.type.startswith("gcp:compute/")]


def test_who_leaves_through_the_network_waits_for_it(production: Deployed, minimal: Deployed) -> None:
    awaited = {
        name: config["environmentVariables"]["AEP_AWAIT_NETWORK"]
        for name, config in production.functions().items()
        if "AEP_AWAIT_NETWORK" in config["environmentVariables"]
    }
    assert awaited == dict.fromkeys(("manage", "deliver", "notify"), "1.1.1.1:443,9.9.9.9:443")
    assert not any(
        "AEP_AWAIT_NETWORK" in each["environmentVariables"] for each in minimal.functions().values()
    )


def test_the_domain_leads_to_ingest_and_manage(production: Deployed) -> None:
    urls = production.one("compute/uRLMap:URLMap", "front-door")
    (matcher,) = urls["pathMatchers"]
    assert matcher["defaultService"] == "front-door-manage-id"
    assert matcher["pathRules"] == [{"paths": ["/ingest", "/ingest/*"], "service": "front-door-ingest-id"}]
    for name in ("manage", "ingest"):
        backend = production.one("compute/backendService:BackendService", f"front-door-{name}")
        assert backend["securityPolicy"] == "front-door-id"


def test_the_domain_takes_tls_1_2_at_least(production: Deployed) -> None:
    policy = production.one("compute/sSLPolicy:SSLPolicy", "front-door")
    assert (policy["profile"], policy["minTlsVersion"]) == ("MODERN", "TLS_1_2")
    assert (
        production.one("compute/targetHttpsProxy:TargetHttpsProxy", "front-door")["sslPolicy"]
        == "front-door-id"
    )


def test_another_domain_gets_a_certificate_of_its_own_name(production: Deployed) -> None:
    certificate = production.one("compute/managedSslCertificate:ManagedSslCertificate", "front-door")
    assert certificate["name"] == certificate_name("events.example.com")
    assert certificate_name("other.example.com") not in (certificate["name"], "event-platform")


def test_old_images_are_deleted_and_the_latest_kept(stack: Deployed) -> None:
    images = stack.one("artifactregistry/repository:Repository", "images")
    assert [policy["action"] for policy in images["cleanupPolicies"]] == ["DELETE", "KEEP"]
    assert images["cleanupPolicies"][1]["mostRecentVersions"] == {"keepCount": 5}
    for function in stack.all("cloudfunctionsv2/function:Function").values():
        assert function.inputs["buildConfig"]["dockerRepository"] == "images-id"


def test_behind_the_load_balancer_clients_are_known_by_what_it_saw(
    production: Deployed, stack: Deployed
) -> None:
    for name in ("manage", "ingest"):
        assert production.functions()[name]["environmentVariables"]["AEP_TRUSTED_PROXIES"] == "2"
        behind = "AEP_TRUSTED_PROXIES" in stack.functions()[name]["environmentVariables"]
        assert behind == bool(stack.all("compute/backendService:BackendService"))


def test_alerts_reach_somebody_and_watch_what_there_is(production: Deployed) -> None:
    for alert in production.all("monitoring/alertPolicy:AlertPolicy").values():
        assert alert.inputs["notificationChannels"] == ["email-on-call@example.com-id"]
    subscriptions = production.all("pubsub/subscription:Subscription")
    for figure in FIGURES:
        for label, pattern in figure.labels.items():
            known = {"subscription_id": subscriptions, "service_name": wiring.SETTINGS}.get(label)
            for part in pattern.split("|") if known else ():
                assert any(re.fullmatch(part, name) for name in known or ()), pattern


def test_every_queue_is_watched(production: Deployed) -> None:
    watched = [figure.labels["subscription_id"] for figure in FIGURES if "subscription_id" in figure.labels]
    for name in production.all("pubsub/subscription:Subscription"):
        assert any(re.fullmatch(pattern, name) for pattern in watched), name


def test_what_is_refused_is_counted_by_pim(production: Deployed) -> None:
    metric = production.one("logging/metric:Metric", "ingest_refused")
    assert 'jsonPayload.event="ingest.refused"' in metric["filter"]
    assert metric["labelExtractors"]["tenant"] == "EXTRACT(jsonPayload.tenant)"
    assert [label["key"] for label in metric["metricDescriptor"]["labels"]] == ["tenant", "way", "reason"]


def test_the_archive_is_the_folder_of_functions(stack: Deployed) -> None:
    archive = stack.one("storage/bucketObject:BucketObject", "functions")
    assert archive["name"] == archive_name(1) == f"functions-{digest(FOLDER)}.zip"
    assert {"main.py", "requirements.txt", "event_platform/domain/events/event-catalog.json"} <= set(
        files(FOLDER)
    )
    assert not [name for name in files(FOLDER) if "__pycache__" in name]


def test_the_archive_names_itself_where_its_code_reads_it(stack: Deployed) -> None:
    archive = stack.one("storage/bucketObject:BucketObject", "functions")
    assert archive["source"].assets[PACKED_AS].text == archive["name"]
    assert FOLDER / PACKED_AS == settings.PACKED_AS


def test_each_function_is_told_what_was_deployed(stack: Deployed) -> None:
    archive = stack.one("storage/bucketObject:BucketObject", "functions")["name"]
    told = {config["environmentVariables"]["AEP_ARCHIVE"] for config in stack.functions().values()}
    assert told == {archive}


def test_a_raised_attempt_has_an_archive_of_its_own() -> None:
    """So Google builds anew what it did not build, and Pulumi takes for built."""
    again = deploy(configuration("minimal") | {"event-platform:attempt": "2"})
    archive = again.one("storage/bucketObject:BucketObject", "functions")["name"]
    assert archive == f"functions-{digest(FOLDER)}-2.zip"
    for function in again.all("cloudfunctionsv2/function:Function").values():
        assert function.inputs["buildConfig"]["source"]["storageSource"]["object"] == archive


def test_the_outputs_are_what_the_doctor_compares_with(stack: Deployed) -> None:
    outputs = StackOutputs.model_validate(stack.outputs)
    assert outputs.archive == stack.one("storage/bucketObject:BucketObject", "functions")["name"]
    assert dict(outputs.functions) == {name: f"https://{name}-abc.a.run.app" for name in FUNCTIONS}
    assert (outputs.project, outputs.region) == ("my-event-platform", "europe-west1")


def test_the_next_steps_lead_to_the_first_event(production: Deployed, minimal: Deployed) -> None:
    steps: list[str] = minimal.outputs["nextSteps"]
    order = ["curl https://manage-abc.a.run.app/health", "aep doctor --deployed", "AEP_REGISTRY_KEY"]
    order += ["aep pims add https://YOUR-PIM --auth platform-key --google my-event-platform"]
    order += ["aep pims client https://YOUR-PIM first-app --google my-event-platform", "--pims pims.json"]
    order += ["a token, a subscriber, a subscription, the first event", "alertEmails"]
    assert [text for step, text in zip(steps, order, strict=True) if text in step] == order
    assert "DNS: events.example.com A 203.0.113.7" in production.outputs["nextSteps"][0]
    page = (FOLDER.parent / "docs" / "operate.md").read_text().partition("## The first event")[2]
    for command in ("aep pims add ", "aep pims client "):  # with the options that the page gives
        options = next(re.findall(r"--[a-z-]+", line) for line in page.splitlines() if command in line)
        assert next(re.findall(r"--[a-z-]+", step) for step in steps if command in step) in (
            options,
            options[::-1],
        )


def test_the_runtime_is_the_one_that_is_checked() -> None:
    pyproject = (FOLDER.parent / "pyproject.toml").read_text()
    checked = re.search(r'^pythonVersion = "3\.(\d+)"$', pyproject, re.MULTILINE)
    assert checked is not None
    assert f"python3{checked[1]}" == RUNTIME


def test_with_a_key_of_feeds_maintain_reads_them_on_a_schedule_of_their_own(minimal: Deployed) -> None:
    assert "feeds" not in minimal.all("cloudscheduler/job:Job")
    stack = deploy({**configuration("minimal"), "event-platform:feedKey": FEED_KEY})
    job = stack.one("cloudscheduler/job:Job", "feeds")
    assert job["name"] == "event-platform-feeds"
    assert job["httpTarget"]["uri"] == "https://maintain-abc.a.run.app/feeds"
    assert job["httpTarget"]["oidcToken"]["serviceAccountEmail"] == email("call-maintain")
    feeds = {
        name for name, config in stack.functions().items() if config["environmentVariables"].get("AEP_FEEDS")
    }
    assert feeds == {"ingest"}
    given = {
        name
        for name, config in stack.functions().items()
        if "AEP_FEED_KEY" in {each["key"] for each in config.get("secretEnvironmentVariables", [])}
    }
    assert given == {"maintain"}
    assert publishers_of_events(stack) - publishers_of_events(minimal) == {account("maintain")}


def test_with_a_key_of_feeds_ingest_may_create_documents(minimal: Deployed) -> None:
    stack = deploy({**configuration("minimal"), "event-platform:feedKey": FEED_KEY})
    for name in PERMISSIONS:
        before, after = (
            set(each.one("projects/iAMCustomRole:IAMCustomRole", f"{name}-role")["permissions"])
            for each in (minimal, stack)
        )
        assert after - before == ({ENTITIES_CREATE} if name == "ingest" else set()), name


def publishers_of_events(stack: Deployed) -> set[str]:
    return {
        right.inputs["member"]
        for right in stack.all("pubsub/topicIAMMember:TopicIAMMember").values()
        if right.inputs["topic"] == "events" and right.inputs["role"] == "roles/pubsub.publisher"
    }
