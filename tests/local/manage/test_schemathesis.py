"""Requests that schemathesis makes up from `/openapi.json`, valid and broken, against a running platform.

Every answer must be one that the document names: no 5xx, a documented status, media type and schema, and
a refusal wherever the request does not fit. `AEP_TEST_SCHEMATHESIS_CASES` is the number of requests, about.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.auth import AuthBase
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from event_platform.descriptions.openapi.operations import OPERATIONS, Operation
from event_platform.domain.events import catalog
from event_platform.domain.tenants import tenant_key
from support import one_pim
from support.one_pim import INGEST_KEY
from support.processes import Child, Client, http, signature

CASES = int(os.environ.get("AEP_TEST_SCHEMATHESIS_CASES", "500"))
IS_LONG = CASES > 500
SIGNING_SECRET = "the-signing-secret-of-the-schemathesis-test"
SIGNING_HEADERS = (
    "X-AKENEO-SIGNATURE-PRIMARY",
    "X-Akeneo-Request-Signature",
    "X-Akeneo-Request-Timestamp",
)
SIGNED = ("/ingest/events-api/{key}", "/ingest/relay/{key}")
HOOK = "http://127.0.0.1:4/hook"
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
IGNORING = {"resumeSubscription"}
"""Operations that ignore a body that is no JSON object (contract/wire.md 15)."""

# Hosts that need no look-up, so that no case waits for a resolver.
URLS = st.sampled_from([HOOK, "https://93.184.215.14/hook"]) | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "http", "HTTPS", "ftp"]),
    st.sampled_from(["127.0.0.1", "93.184.215.14", "[::1]", "user@127.0.0.1", "10.0.0.1", "[::1", ""]),
    st.sampled_from(["", ":9", ":443", ":0", ":65536", ":x"]),
    st.sampled_from(["", "/", "/hook", "/hook?a=b", "/h#f", "/%ff", "/\u00e9", "/a b"]),
)
schemathesis.openapi.format("uri", URLS)


def weight(operation: Operation) -> int:
    """Bodies have the most that can be wrong."""
    return 8 if operation.body else 2 if "{" in operation.path else 1


STATES = ["live", "live", "deleted", "made up"]
MANY_BOUNDARIES = {"createSubscription", "changeSubscription"}
"""Left out of a short run: the configs of three destinations take half a minute."""
REFUSALS = [400, 401, 403, 404, 405, 409, 413, 415]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)
TOTAL = sum(map(weight, OPERATIONS))


class Signed(AuthBase):
    """Signs the body as it goes out, as the PIM or Akeneo's platform does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        now = str(int(time.time()))
        signatures = signature(SIGNING_SECRET, body), signature(SIGNING_SECRET, now.encode() + b"." + body)
        for name, value in zip(SIGNING_HEADERS, (*signatures, now), strict=True):
            if name in request.headers:  # a case may leave one out
                request.headers[name] = value
        return request


@dataclass
class Target:
    """A running platform, its schema, and resources in every state that a case can meet."""

    serve: Child
    schema: OpenApiSchema
    client: Client
    session: requests.Session = field(default_factory=http)
    statuses: Counter[str] = field(default_factory=Counter)
    subscriber: str = ""
    subscription: str = ""
    deleted: tuple[str, str] = ("", "")

    def renew(self) -> None:
        """A live subscriber and subscription; what was live becomes what is deleted."""
        if self.subscriber:
            self.client.call("DELETE", f"/subscribers/{self.subscriber}")
            self.deleted = (self.subscriber, self.subscription)
        self.subscriber, self.subscription = self._new()

    def _new(self) -> tuple[str, str]:
        contact = {"technical_email": "ops@example.com"}
        body = {"name": "Schemathesis", "contact": contact}
        subscriber = self.client.call("POST", "/subscribers", body, expect=201)["id"]
        config = {"url": HOOK, "secret": {"primary": "a-primary-secret-of-it"}, "headers": {"X-A": "b"}}
        wanted = {"events": ["com.akeneo.pim.v1.product.updated"], "type": "https", "config": config}
        path = f"/subscribers/{subscriber}/subscriptions"
        return subscriber, self.client.call("POST", path, wanted, expect=201)["id"]

    def ids(self, operation: Operation, state: str) -> dict[str, str] | None:
        """The parameters of the path; None leaves them to be made up."""
        if state == "made up" or "{sid}" not in operation.path:
            return None
        sid, id_ = self.deleted if state == "deleted" else (self.subscriber, self.subscription)
        return {"sid": sid, "id": id_} if "{id}" in operation.path else {"sid": sid}

    def check(self, operation: Operation, case: Case) -> None:
        """Sends the request, checks the answer, and brings the resources back to where they were."""
        headers = self.headers(operation)
        auth = Signed() if operation.path in SIGNED else None
        if auth is not None and case.path_parameters:
            case.path_parameters["key"] = tenant_key(self.client.pim)
        answer = case.call(
            base_url=self.serve.url, session=self.session, headers=headers, timeout=10, auth=auth
        )
        self.statuses[f"{operation.id} {answer.status_code}"] += 1
        if answer.status_code == 201 and operation.id != "startReplay":  # which is done at once, or nearly
            self.client.call(
                "DELETE",
                f"{answer.request.path_url.removeprefix('/api/v1')}/{answer.json()['id']}",
                expect=200,
            )
        elif operation.method == "DELETE" and answer.status_code == 200:
            self.renew()
        ignores = operation.id in IGNORING and not isinstance(case.body, dict)
        checks = [each for each in CHECKS if not (ignores and each is negative_data_rejection)]
        case.validate_response(answer, checks=checks)

    def headers(self, operation: Operation) -> dict[str, str]:
        if operation.path == "/ingest":
            return {"Authorization": f"Bearer {INGEST_KEY}"}
        if operation.path in SIGNED:
            return dict.fromkeys(SIGNING_HEADERS, "")  # which `Signed` fills in
        client = self.client
        return {"X-PIM-URL": client.pim, "X-PIM-TOKEN": client.token, "X-PIM-CLIENT-ID": client.client_id}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("schemathesis")
    secrets = {"events_api_secret": SIGNING_SECRET, "relay_secret": SIGNING_SECRET}
    with one_pim.serve_simulated(folder, more=secrets) as (serve, pim):
        document = http().get(f"{serve.url}/openapi.json", timeout=10).json()
        schema = schemathesis.openapi.from_dict(document, config=CONFIG)
        world = Target(serve, schema, pim.client(serve.url))
        for _ in range(2):
            world.renew()
        yield world
        print(f"\nschemathesis: {world.statuses.total()} cases, {dict(sorted(world.statuses.items()))}")
        assert "Traceback" not in serve.stderr(), serve.stderr()[-4000:]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_answer_is_one_that_the_document_names(world: Target, operation: Operation) -> None:
    @settings(
        max_examples=max(10, CASES * weight(operation) // TOTAL),
        deadline=None,
        database=None,
        derandomize=not IS_LONG,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(st.sampled_from(STATES).flatmap(lambda state: cases(world, operation, state)))
    def run(case: Case) -> None:
        world.check(operation, case)

    run()


@pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if IS_LONG or operation.id not in MANY_BOUNDARIES],
    ids=lambda operation: operation.id,
)
def test_so_is_every_answer_at_the_boundaries_of_what_is_described(
    world: Target, operation: Operation
) -> None:
    described = world.schema[operation.path][operation.method]
    for case in world.schema.iter_coverage_cases(
        described,
        generation_modes=list(GenerationMode),
        generation_config=world.schema.config.generation_for(operation=described),
    ):
        world.check(operation, case)


def cases(world: Target, operation: Operation, state: str) -> st.SearchStrategy[Case]:
    """Valid and broken requests, for a resource in that state."""
    described = world.schema[operation.path][operation.method]
    ids = world.ids(operation, state)
    can_be_wrong = bool(operation.body) or not ids
    return st.sampled_from(list(GenerationMode) if can_be_wrong else [GenerationMode.POSITIVE]).flatmap(
        lambda mode: described.as_strategy(generation_mode=mode, path_parameters=ids).map(
            with_true_data if mode is GenerationMode.POSITIVE else lambda case: case
        )
    )


def with_true_data(case: Case) -> Case:
    """Events of this PIM whose data fits their type, which the document leaves to the schemas of types."""
    body: Any = case.body
    for event in body if isinstance(body, list) else [body]:
        if isinstance(event, dict) and "data" in event and event.get("type") in catalog.load():
            event["data"] |= catalog.load()[event["type"]].example
            event["pimurl"] = None
    return case
