"""The OAuth of an App at the simulated PIM, as Akeneo documents it for Apps."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aep.sandbox.pim.kinds import Edition
from support.simulated_pim import ERP, PimReader, simulated_pim

CALLBACK = "http://127.0.0.1:3000/callback"
APP = replace(ERP, callback_url=CALLBACK)
AUTHORIZE = {
    "response_type": "code",
    "client_id": "erp",
    "scope": "write_products read_families",
    "state": "s 1",
}


@pytest.fixture
async def pim() -> AsyncIterator[PimReader]:
    async with simulated_pim(client=APP) as reader:
        yield reader


async def authorize(pim: PimReader, **changed: str) -> tuple[int, str, Any]:
    url = f"{pim.url}/connect/apps/v1/authorize"
    async with pim.session.get(url, params={**AUTHORIZE, **changed}, allow_redirects=False) as answer:
        body = None if answer.status == 302 else await answer.json()
        return answer.status, answer.headers.get("Location", ""), body


async def code_of(pim: PimReader, **changed: str) -> str:
    status, location, _ = await authorize(pim, **changed)
    assert status == 302
    return dict(parse_qsl(urlsplit(location).query))["code"]


async def exchange(pim: PimReader, code: str, **changed: str) -> tuple[int, Any]:
    form = {
        "client_id": "erp",
        "code": code,
        "grant_type": "authorization_code",
        "code_identifier": "some-random-text",
        "code_challenge": hashlib.sha256(b"some-random-texterp-secret").hexdigest(),
        **changed,
    }
    url = f"{pim.url}/connect/apps/v1/oauth2/token"
    async with pim.session.post(url, data={name: value for name, value in form.items() if value}) as answer:
        return answer.status, await answer.json()


async def test_the_user_comes_back_to_the_app_with_code_and_state(pim: PimReader) -> None:
    status, location, _ = await authorize(pim)
    assert status == 302
    assert location.startswith(f"{CALLBACK}?")
    assert dict(parse_qsl(urlsplit(location).query)).items() >= {"state": "s 1"}.items()


async def test_a_code_becomes_a_token_without_an_end_that_reads_what_was_granted(pim: PimReader) -> None:
    status, answer = await exchange(pim, await code_of(pim))
    assert status == 200
    assert answer.items() >= {"token_type": "bearer", "scope": "read_products"}.items()
    assert answer.keys() == {"access_token", "token_type", "scope"}
    pim.token = answer["access_token"]
    pim.clock.moment += timedelta(days=400)
    assert (await pim.get("/products-uuid")).status == 200
    assert (await pim.get("/families")).status == 403
    assert (await pim.get("/token-info")).body == {"client_id": "erp", "event_platform": True}


async def test_the_community_edition_grants_no_assets() -> None:
    async with simulated_pim(client=APP, edition=Edition.COMMUNITY) as pim:
        code = await code_of(pim, scope="read_assets read_categories nonsense")
        assert (await exchange(pim, code))[1]["scope"] == "read_categories"


async def test_a_code_is_good_for_one_token(pim: PimReader) -> None:
    code = await code_of(pim)
    assert (await exchange(pim, code))[0] == 200
    assert await exchange(pim, code) == (
        400,
        {"error": "invalid_grant", "error_description": "Code is not valid"},
    )


async def test_a_code_ends_after_half_a_minute(pim: PimReader) -> None:
    code = await code_of(pim)
    pim.clock.moment += timedelta(seconds=30)
    expired = {"error": "invalid_grant", "error_description": "Code has expired"}
    assert await exchange(pim, code) == (400, expired)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"code_identifier": ""}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"code_challenge": hashlib.sha256(b"another").hexdigest()}, "invalid_client"),
        ({"code": "made-up"}, "invalid_grant"),
    ],
)
async def test_a_wrong_token_request_is_400_and_spends_no_code(
    pim: PimReader, changed: dict[str, str], error: str
) -> None:
    code = await code_of(pim)
    status, answer = await exchange(pim, **{"code": code, **changed})
    assert (status, answer["error"]) == (400, error)
    assert (await exchange(pim, code))[0] == 200


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"client_id": "nobody"}, "invalid_client"), ({"response_type": "token"}, "unsupported_response_type")],
)
async def test_a_wrong_authorization_request_goes_nowhere(
    pim: PimReader, changed: dict[str, str], error: str
) -> None:
    status, location, answer = await authorize(pim, **changed)
    assert (status, location, answer["error"]) == (400, "", error)


async def test_an_app_without_a_callback_url_is_told_the_option() -> None:
    async with simulated_pim() as pim:
        status, _, answer = await authorize(pim)
        assert status == 400
        assert "--callback-url" in answer["error_description"]
