"""A PIM in memory, with the odd ends of the real REST API, behind the port `PimRest`.

Its time is the clock of the test. What it holds is changed by the test, at once or with a delay before it can
be seen, as in a bulk save.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode
from zoneinfo import ZoneInfo

from event_platform.domain.errors import PimUnavailable, TooLarge
from event_platform.ports import Clock, PimAnswer

API = "/api/rest/v1/"
LOCAL = ("products-uuid", "products", "product-models")
BY_CURSOR = (*LOCAL, "assets", "records")
DATED = {"products-uuid", "products", "product-models", "assets"}
PARENTS = {"asset-families": "assets", "reference-entities": "records"}
SECRET, PASSWORD = "secret-of-the-connection", "password-of-the-user"


@dataclass
class Held:
    """An item as the PIM holds it."""

    code: str
    created: datetime
    updated: datetime
    seen_from: datetime
    value: int = 0
    body: dict[str, Any] = field(default_factory=dict)


class Killed(BaseException):
    """Stands for the end of the process that asks the PIM."""


class FakePim:
    """Answers calls of the REST API. `answers` are given first, in turn, instead of what would be right."""

    def __init__(
        self,
        clock: Clock,
        url: str = "https://pim.example.com",
        *,
        zone: str = "UTC",
        edition: str = "ee",
        has_uuids: bool = True,
        dated: set[str] | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self.clock = clock
        self.url = url
        self.zone = ZoneInfo(zone)
        self.edition = edition
        self.has_uuids = has_uuids
        self.dated = DATED if dated is None else dated
        self.behind_proxy = behind_proxy
        self.lists: dict[str, dict[str, Held]] = {}
        self.calls: list[str] = []
        self.logins = 0
        self._webhooks = 0
        self.tokens: set[str] = set()
        self.answers: list[PimAnswer | Exception] = []
        self.denied: set[str] = set()
        self.before_page: Callable[[str], None] = lambda path: None
        self.limit_bytes = 32 * 1024 * 1024
        self.piece_bytes = 4096
        self.add("attributes", "sku", type="pim_catalog_identifier")

    def said(self, code: str, action: str = "product.updated") -> dict[str, Any]:
        """An event of the PIM's webhook about a product as it is now."""
        held = self.lists["products"].get(code)
        resource: dict[str, Any] = {"uuid": self.uuid_of(code), "identifier": code}
        if held is not None:
            resource |= {"created": self.date(held.created), "updated": self.date(held.updated)}
        self._webhooks += 1
        return {
            "action": action,
            "event_id": f"00000000-0000-4000-8000-{self._webhooks:012d}",
            "event_datetime": self.date(self.now),
            "author": "julia",
            "author_type": "ui",
            "data": {"resource": resource},
        }

    @property
    def now(self) -> datetime:
        return self.clock.wall()

    def add(self, route: str, code: str, *, at: datetime | None = None, **body: Any) -> Held:
        """Adds an item that was created and updated at that time, now unless given."""
        moment = (at or self.now).replace(microsecond=0)
        held = Held(code, moment, moment, moment, body=body)
        self.lists.setdefault(route, {})[code] = held
        return held

    def change(self, route: str, code: str, *, at: datetime | None = None, seen_after: float = 0) -> Held:
        """Changes an item; others see that so many seconds later."""
        held = self.lists[route][code]
        now = self.now.replace(microsecond=0)
        held.updated = (at or now).replace(microsecond=0)
        held.seen_from = now + timedelta(seconds=seen_after)
        held.value += 1
        return held

    def remove(self, route: str, code: str) -> None:
        del self.lists[route][code]

    def uuid_of(self, code: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, code))

    def date(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).isoformat()

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        assert url.startswith(self.url)
        path = url.removeprefix(self.url)
        if path == "/api/oauth/v1/token":
            return self._token(headers, json.loads(body))
        self.calls.append(path.removeprefix(API))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if answer.status == 200 and read is not None:
                read(answer.body)
            return answer
        if headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self._answer(401, {"code": 401, "message": "The access token provided has expired."})
        assert path.startswith(API)
        answer = self._get(path.removeprefix(API))
        if answer.status == 200 and read is not None:
            if len(answer.body) > self.limit_bytes:
                raise TooLarge("the answer has more than 32 MiB")
            for start in range(0, len(answer.body), self.piece_bytes):
                read(answer.body[start : start + self.piece_bytes])
        return answer

    def _token(self, headers: Mapping[str, str], body: dict[str, str]) -> PimAnswer:
        self.logins += 1
        pair = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
        good = body.get("password") == PASSWORD or body.get("refresh_token", "") in self.tokens
        if pair != f"1_client:{SECRET}" or not good:
            return self._answer(422, {"code": 422, "message": "No user found for the given credentials"})
        token = f"token-{self.logins}"
        self.tokens = {token, f"renewal-{self.logins}"}
        return self._answer(
            200, {"access_token": token, "expires_in": 3600, "refresh_token": f"renewal-{self.logins}"}
        )

    def kill_at_page(self, is_it: Callable[[str], bool] = lambda path: True) -> None:
        """Has the next call of such a path raise Killed in whoever asks, once."""

        def kill(path: str) -> None:
            if is_it(path):
                self.before_page = lambda path: None
                raise Killed

        self.before_page = kill

    def _get(self, path: str) -> PimAnswer:
        route, _, text = path.partition("?")
        query = {name: values[0] for name, values in parse_qs(text).items()}
        self.before_page(path)
        parts = [unquote(part) for part in route.split("/")]
        name = parts[2] if len(parts) > 2 and parts[0] in PARENTS else parts[0]
        if name in self.denied:
            return self._answer(403, {"code": 403, "message": "Access forbidden."})
        is_enterprise = parts[0] in PARENTS
        if (is_enterprise and self.edition == "ce") or (name == "products-uuid" and not self.has_uuids):
            return self._answer(404, {"code": 404, "message": "No route found"})
        if is_enterprise and len(parts) == 1:
            return self._list(parts[0], self.lists.get(parts[0], {}), query)
        list_name = "/".join(parts[:3]) if is_enterprise else parts[0]
        if is_enterprise and parts[1] not in self.lists.get(parts[0], {}):
            return self._answer(404, {"code": 404, "message": "No such family"})
        code = parts[3:] if is_enterprise else parts[1:]
        source = "products" if list_name in ("products-uuid", "products") else list_name
        held = self.lists.get(source, {})
        if code:
            found = [each for each in held.values() if code[0] in (each.code, self.uuid_of(each.code))]
            if not found:
                return self._answer(404, {"code": 404, "message": "Not found"})
            return self._answer(200, self._item(list_name, found[0]))
        return self._list(list_name, held, query)

    def _list(self, name: str, held: dict[str, Held], query: dict[str, str]) -> PimAnswer:
        limit = int(query.get("limit", "10"))
        if limit > 100:
            return self._answer(422, {"code": 422, "message": "You cannot request more than 100 items."})
        kind = name.rpartition("/")[2]
        seen = [each for each in held.values() if each.seen_from <= self.now]
        if "search" in query:
            (condition,) = json.loads(query["search"])["updated"]
            assert condition["operator"] == ">"
            after = self._filter(condition["value"], is_local=kind in LOCAL)
            seen = [each for each in seen if each.updated > after]
        rows = sorted(seen, key=lambda each: self._cursor(kind, each))
        links: dict[str, Any] = {"self": {"href": f"{self._host()}{API}{name}"}}
        if kind in BY_CURSOR or name in PARENTS:
            after_key = query.get("search_after", "")
            rows = [each for each in rows if self._cursor(kind, each) > after_key]
            page = rows[:limit]
            more = {"search_after": self._cursor(kind, page[-1])} if page else {}
            is_last = len(page) < limit
        else:
            number = int(query.get("page", "1"))
            page = rows[(number - 1) * limit : number * limit]
            more = {"page": str(number + 1)}
            is_last = len(page) < limit
        if not is_last:
            links["next"] = {"href": f"{self._host()}{API}{name}?{urlencode(query | more)}"}
        body = {"_links": links, "_embedded": {"items": [self._item(name, each) for each in page]}}
        if query.get("with_count") == "true":
            body["items_count"] = len(rows)
        return self._answer(200, body)

    def _filter(self, value: str, *, is_local: bool) -> datetime:
        if is_local:
            return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=self.zone).astimezone(UTC)
        moment = datetime.fromisoformat(value)
        assert moment.tzinfo is not None
        return moment

    def _cursor(self, kind: str, held: Held) -> str:
        return self.uuid_of(held.code) if kind == "products-uuid" else held.code

    def _host(self) -> str:
        return "http://akeneo-web:8080" if self.behind_proxy else self.url

    def _item(self, name: str, held: Held) -> dict[str, Any]:
        kind = name.rpartition("/")[2]
        links = {"_links": {"self": {"href": f"{self._host()}{API}{name}/{held.code}"}}}
        dates = {"created": self.date(held.created), "updated": self.date(held.updated)}
        body: dict[str, Any] = dict(held.body)
        if kind in ("products-uuid", "products"):
            values = {"sku": [{"locale": None, "scope": None, "data": held.code}]}
            named = (
                {"uuid": self.uuid_of(held.code)} if kind == "products-uuid" else {"identifier": held.code}
            )
            return {**links, **named, "enabled": True, "values": values, **dates, **body}
        if kind == "categories":
            return {**links, "code": held.code, "parent": None, "updated": dates["updated"], **body}
        if kind in self.dated:
            return {**links, "code": held.code, "values": {"v": held.value}, **dates, **body}
        return {**links, "code": held.code, "labels": {"en_US": f"{held.code} {held.value}"}, **body}

    def _answer(self, status: int, body: dict[str, Any]) -> PimAnswer:
        return PimAnswer(status, self.now.replace(microsecond=0), None, json.dumps(body).encode())


def html(status: int = 200) -> PimAnswer:
    """An answer of something that stands before the PIM."""
    return PimAnswer(
        status, datetime(2026, 1, 31, tzinfo=UTC), None, b"<html><body>Maintenance</body></html>"
    )


def unreachable() -> PimUnavailable:
    return PimUnavailable("the PIM could not be asked: connection refused")
