"""The simulated PIM over real sockets: tokens, permissions and outages."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from aep.sandbox.pim.app import create_app
from aep.sandbox.pim.connections import Client
from aep.serving import server

ERP = Client("erp", "erp-secret", "erp-user", "erp-password")
SHOP = Client("shop", "shop-secret", "shop-user", "shop-password")
PASSWORD = {"grant_type": "password", "username": "erp-user", "password": "erp-password"}


class Time:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Pim:
    """A client of the PIM that is under test."""

    def __init__(self, session: aiohttp.ClientSession, clock: Time) -> None:
        self.session = session
        self.clock = clock

    async def token(
        self, body: dict[str, str], *, client: str = "erp", secret: str = ERP.secret, form: bool = False
    ) -> tuple[int, Any]:
        payload: dict[str, Any] = {"data": body} if form else {"json": body}
        headers = {"Authorization": aiohttp.encode_basic_auth(client, secret)}
        return await self.call("POST", "/api/oauth/v1/token", headers=headers, **payload)

    async def info(self, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.call("GET", "/api/rest/v1/token-info", headers=headers)

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, path, **options) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def pim() -> AsyncIterator[Pim]:
    clock = Time()
    async with (
        server.running(create_app([ERP, SHOP], clock.now)) as url,
        aiohttp.ClientSession(url) as session,
    ):
        yield Pim(session, clock)


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
async def test_the_password_grant_answers_as_akeneo_does(pim: Pim, form: bool) -> None:
    status, answer = await pim.token(PASSWORD, form=form)
    assert status == 200
    assert list(answer) == ["access_token", "expires_in", "token_type", "scope", "refresh_token"]
    assert (answer["expires_in"], answer["token_type"], answer["scope"]) == (3600, "bearer", None)
    assert await pim.info(answer["access_token"]) == (200, {"client_id": "erp", "event_platform": True})


async def test_each_client_gets_tokens_of_its_own(pim: Pim) -> None:
    shop = {"grant_type": "password", "username": "shop-user", "password": "shop-password"}
    _, answer = await pim.token(shop, client="shop", secret="shop-secret")
    assert (await pim.info(answer["access_token"]))[1]["client_id"] == "shop"
    assert (await pim.token(shop))[0] == 422


async def test_a_refresh_token_works_once_and_leaves_earlier_tokens_valid(pim: Pim) -> None:
    _, first = await pim.token(PASSWORD)
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    status, second = await pim.token(refresh)
    assert status == 200
    assert second["access_token"] != first["access_token"]
    for answer in (first, second):
        assert (await pim.info(answer["access_token"]))[0] == 200
    assert await pim.token(refresh) == (
        422,
        {"code": 422, "message": "Refresh token is invalid or has expired"},
    )


async def test_a_refresh_token_is_its_clients_alone(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    refresh = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert (await pim.token(refresh, client="shop", secret="shop-secret"))[0] == 422


async def test_an_access_token_ends_after_an_hour(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    pim.clock.moment += timedelta(seconds=3599)
    assert (await pim.info(answer["access_token"]))[0] == 200
    pim.clock.moment += timedelta(seconds=1)
    status, refusal = await pim.info(answer["access_token"])
    assert (status, refusal) == (401, {"code": 401, "message": "The access token provided has expired."})


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        (PASSWORD, "another"),
        ({**PASSWORD, "password": "another"}, "erp-secret"),
        ({**PASSWORD, "username": "shop-user"}, "erp-secret"),
        ({"grant_type": "password", "username": "erp-user"}, "erp-secret"),
        ({"grant_type": "client_credentials"}, "erp-secret"),
        ({"grant_type": "refresh_token", "refresh_token": "made-up"}, "erp-secret"),
        ({}, "erp-secret"),
    ],
)
async def test_a_bad_token_request_is_422(pim: Pim, body: dict[str, str], secret: str) -> None:
    status, answer = await pim.token(body, secret=secret)
    assert status == 422
    assert answer["code"] == 422
    assert answer["message"]


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Basic !!", "Basic ZXJw"])
async def test_a_token_request_needs_the_clients_credentials(pim: Pim, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    status, answer = await pim.call("POST", "/api/oauth/v1/token", json=PASSWORD, headers=headers)
    assert status == 422
    assert "client_id" in answer["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'])
async def test_a_token_request_that_is_no_json_object_is_400(pim: Pim, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status, answer = await pim.call("POST", "/api/oauth/v1/token", data=body, headers=headers)
    assert (status, answer) == (400, {"code": 400, "message": "Invalid json message received"})


@pytest.mark.parametrize("path", ["/api/rest/v1/token-info", "/api/rest/v1/channels?limit=1"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer unknown"}, {"Authorization": "unknown"}])
async def test_without_a_valid_token_the_api_is_401(pim: Pim, path: str, headers: dict[str, str]) -> None:
    status, answer = await pim.call("GET", path, headers=headers)
    assert (status, answer["code"]) == (401, 401)


async def test_channels_can_be_read_with_a_token(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    status, channels = await pim.call("GET", "/api/rest/v1/channels?limit=1", headers=headers)
    assert status == 200
    assert len(channels["_embedded"]["items"]) == 1


async def test_the_permission_is_switched_per_client(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    for allowed in (False, True):
        status, _ = await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": allowed})
        assert status == 200
        assert (await pim.info(answer["access_token"]))[1]["event_platform"] is allowed
    shop = {"grant_type": "password", "username": "shop-user", "password": "shop-password"}
    await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": False})
    _, other = await pim.token(shop, client="shop", secret="shop-secret")
    assert (await pim.info(other["access_token"]))[1]["event_platform"] is True


async def test_a_wrong_permission_switch_says_why(pim: Pim) -> None:
    assert (await pim.call("PUT", "/_sim/clients/nobody", json={"event_platform": False}))[0] == 404
    status, answer = await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": "no"})
    assert status == 422
    assert "event_platform" in answer["message"]


async def test_an_outage_makes_the_api_fail_until_it_is_over(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    assert (await pim.call("POST", "/_sim/outage", json={"status": 503}))[0] == 200
    assert (await pim.info(answer["access_token"]))[0] == 503
    assert (await pim.call("GET", "/health"))[0] == 200
    assert (await pim.call("POST", "/_sim/outage", json={}))[0] == 200
    assert (await pim.info(answer["access_token"]))[0] == 200
