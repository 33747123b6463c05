"""The platform's own headers: sent, described, refused and documented by one table."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from event_platform.descriptions import asyncapi
from event_platform.domain.attempts import custom_headers
from event_platform.domain.attempts.delivery_headers import DELIVERY_HEADERS, Sent, signed
from event_platform.domain.attempts.https_requests import request_headers
from event_platform.domain.events import catalog
from event_platform.domain.subscriptions import HttpsConfig

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [header.name for header in DELIVERY_HEADERS]
SECRET = "a secret of 16 or more"


def test_a_delivery_has_them_before_its_custom_headers() -> None:
    own = {"X-Own": SecretStr("1")}
    config = HttpsConfig("https://example.com/", SecretStr(SECRET), SecretStr(SECRET), own)

    sent = request_headers("id", b"{}", config, "0199c1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b")

    assert [name for name, _ in sent] == [*NAMES, "X-Own"]


def test_an_optional_one_is_left_out() -> None:
    assert [name for name, _ in signed(Sent("id", b"{}", SECRET))] == [
        header.name for header in DELIVERY_HEADERS if not header.is_optional
    ]


def test_asyncapi_describes_them() -> None:
    document = asyncapi.document(catalog.load(), "https://events.example.com/spec")
    headers = document["components"]["schemas"]["DeliveryHeaders"]

    assert list(headers["properties"]) == NAMES
    assert headers["required"] == [header.name for header in DELIVERY_HEADERS if not header.is_optional]


@pytest.mark.parametrize("name", NAMES)
def test_none_of_them_can_be_a_custom_header(name: str) -> None:
    assert custom_headers.REFUSED.refuses(name.swapcase())


def test_the_contract_names_them_in_their_order() -> None:
    section = (DOCS / "contract" / "wire.md").read_text().split("\n## 10. ")[1].split("\n## ")[0]

    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == NAMES


def test_the_page_for_developers_shows_them_in_their_order() -> None:
    example = (DOCS / "for-app-developers.md").read_text().split("\nPOST ")[1].split("\n\n")[0]

    assert re.findall(r"^([\w-]+): ", example, re.MULTILINE) == NAMES
