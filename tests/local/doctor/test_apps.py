"""Checks of what an app would be answered, over a gateway whose PIMs answer as a test says."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from aep.doctor import apps
from aep.doctor.credentials import Credentials
from aep.doctor.findings import Check, State
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.errors import PimUnavailable
from event_platform.domain.tenants import Tenant

URL = "https://pim.example.com"
TOKEN = "a-good-token-of-the-pim"
NOBODY = Credentials.model_construct(pim_url=None, pim_client_id=None, pim_token=None)


class Pims:
    """The port `PimGateway`: `made_up` answers any token but the good one, which belongs to `erp`."""

    def __init__(self, made_up: int | None = 401, info: dict[str, Any] | None = None) -> None:
        self.made_up = made_up
        self.info = {"client_id": "erp"} | (info or {})
        self.paths: list[str] = []

    async def get(self, tenant: Tenant, pim_url: str, path: str, token: str) -> Answer:
        self.paths.append(path)
        if token == TOKEN:
            return Answer(200, {}, orjson.dumps(self.info))
        if self.made_up is None:
            raise PimUnavailable("the PIM could not be asked: no answer came")
        return Answer(self.made_up)

    async def close(self) -> None: ...


def tenant(**fields: Any) -> Tenant:
    return Tenant.model_validate({"url": URL} | fields)


async def checked(pims: Pims, *tenants: Tenant, known: Credentials = NOBODY) -> list[Check]:
    return await apps.checks(tenants or (tenant(),), known, pims)


@pytest.mark.parametrize(
    ("auth", "status", "state", "words"),
    [
        ("token-info", 401, State.OK, "it refuses a token that was made up"),
        (
            "token-info",
            404,
            State.PROBLEM,
            "every app gets 401, as the PIM has no token-info route: run",
        ),
        ("token-info", 403, State.PROBLEM, "it answers 403 to a token that was made up, and 401 is expected"),
        ("token-info", 200, State.PROBLEM, "it takes a token that was made up"),
        ("token-info", None, State.PROBLEM, "every app gets 503: the PIM could not be asked: no answer came"),
        ("probe", 401, State.OK, "it refuses a token that was made up"),
        ("probe", 403, State.PROBLEM, "it takes a token that was made up"),
    ],
)
async def test_each_pim_is_asked_about_a_token_that_was_made_up(
    auth: str, status: int | None, state: State, words: str
) -> None:
    pims = Pims(status)
    (found,) = await checked(pims, tenant(auth=auth, clients=[{"client_id": "erp"}]))
    assert (found.name, found.state, found.needed) == ("apps", state, False)
    assert found.detail.startswith(f"{URL}: {words}")
    assert pims.paths == [
        "/api/rest/v1/token-info" if auth == "token-info" else "/api/rest/v1/channels?limit=1"
    ]


@pytest.mark.parametrize(
    ("auth", "clients", "state", "words"),
    [
        (
            "platform-key",
            [],
            State.PROBLEM,
            "every app gets 401, as none has a platform key: `aep",
        ),
        (
            "platform-key",
            [{"client_id": "erp", "key_sha256": sha256(b"key").hexdigest()}, {"client_id": "shop"}],
            State.OK,
            "1 client can call with a platform key",
        ),
        ("probe", [], State.PROBLEM, "every app gets 401, as no client is listed: `aep pims client"),
    ],
)
async def test_what_the_registry_decides_is_said_without_a_call(
    auth: str, clients: list[dict[str, str]], state: State, words: str
) -> None:
    pims = Pims()
    (found,) = await checked(pims, tenant(auth=auth, clients=clients))
    assert found.state is state
    assert found.detail.startswith(f"{URL}: {words}")
    assert pims.paths == []


async def test_no_more_than_some_pims_are_asked_and_patterns_are_not() -> None:
    many = [tenant(url=f"https://pim{number}.example.com") for number in range(apps.ASKED + 3)]
    pattern = Tenant(host_pattern="*.cloud.akeneo.com")
    pims = Pims()
    found = await checked(pims, *many, pattern)
    assert len(pims.paths) == apps.ASKED
    assert found[-1] == Check("apps", State.MISSING, "4 PIMs more, not asked")


def own(token: str = TOKEN, client_id: str = "erp", url: str = URL) -> Credentials:
    return Credentials(pim_url=url, pim_client_id=client_id, pim_token=SecretStr(token))


@pytest.mark.parametrize(
    ("known", "info", "state", "words"),
    [
        (own(), {}, State.OK, "is let in and may subscribe"),
        (own(), {"event_platform": False}, State.PROBLEM, "gets 403: its connection has no Event Platform"),
        (own(client_id="shop"), {}, State.PROBLEM, "gets 401: X-PIM-TOKEN belongs to another client"),
        (own("wrong"), {}, State.PROBLEM, "gets 401: X-PIM-TOKEN is not valid in this PIM"),
        (own(url="https://other.example.com"), {}, State.PROBLEM, "gets 401: X-PIM-URL names https://other"),
    ],
)
async def test_the_client_of_the_environment_is_told_what_it_would_be_answered(
    known: Credentials, info: dict[str, Any], state: State, words: str
) -> None:
    _, found = await checked(Pims(info=info), known=known)
    assert found.state is state
    assert f"{known.pim_client_id} (AEP_PIM_CLIENT_ID) {words}" in found.detail
    assert TOKEN not in found.detail


async def test_a_key_that_has_ended_is_none() -> None:
    digest = sha256(b"key").hexdigest()
    ended = {"key_sha256": digest, "until": datetime(2026, 1, 1, tzinfo=UTC)}
    (found,) = await checked(
        Pims(), tenant(auth="platform-key", clients=[{"client_id": "erp", "previous_keys": [ended]}])
    )
    assert found.state is State.PROBLEM
