"""Calls of one PIM's REST API: its token, the pace of the calls, and what each answer means."""

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from ..domain.errors import PimUnavailable, TooLarge
from ..domain.feeds import Feed
from ..ports import Clock, PimAnswer, PimRest
from .errors import SERVER_ERROR, FeedError, Missing, NoRight, PimTrouble, ResourceError
from .pages import Page, PageReader, UnusablePage
from .resources import API

TOKEN_PATH = "/api/oauth/v1/token"  # noqa: S105 - a path
SECONDS_BETWEEN_CALLS = 0.2
TOKEN_SECONDS = 3600.0
"""The seconds for which a token is good, where the answer does not say."""
BEFORE_THE_END = 60.0
MAX_RETRY_AFTER = 900.0
MESSAGE_CHARACTERS = 200


class TooLargePage(ResourceError):
    """Raised when an answer is larger than what is read of one."""


class PimSession:
    """Makes one call at a time, at most five a second."""

    def __init__(self, rest: PimRest, feed: Feed, clock: Clock) -> None:
        self._rest = rest
        self._feed = feed
        self._clock = clock
        self._base_path = urlsplit(feed.tenant).path
        self._token = ""
        self._refresh_token = ""
        self._good_until = 0.0
        self._next_call = 0.0
        self.calls = 0

    async def page(
        self, path: str, *, attribute: str | None = None, is_hashed: bool = False
    ) -> tuple[Page, datetime]:
        """Returns a page and the `Date` of its answer. `path` is below the API's, with its query.

        Raises the errors of a feed.
        """
        reader = PageReader(base_path=self._base_path, attribute=attribute, is_hashed=is_hashed)
        try:
            answer = await self._get(path, reader.feed)
            page = reader.close()
        except UnusablePage as error:
            raise ResourceError(str(error), "not_json") from error
        if answer.date is None:
            raise ResourceError("the answer has no usable header Date, which the feed goes by", "no_date")
        return page, answer.date

    async def exists(self, path: str) -> bool:
        """True if the PIM has the item of that path."""
        try:
            await self._get(path, lambda piece: None)
        except Missing:
            return False
        return True

    async def _get(self, path: str, read: Callable[[bytes], None]) -> PimAnswer:
        was_new = self._clock.monotonic() >= self._good_until
        if was_new:
            await self._log_in()
        answer = await self._call(
            "GET", f"{API}{path}", {"Authorization": f"Bearer {self._token}"}, b"", read
        )
        if answer.status == 401 and not was_new:
            self._refresh_token = ""
            await self._log_in()
            headers = {"Authorization": f"Bearer {self._token}"}
            answer = await self._call("GET", f"{API}{path}", headers, b"", read)
        _check(answer)
        return answer

    async def _log_in(self) -> None:
        """Gets a token, by the one that renews it if there is one. Raises PimTrouble."""
        self._good_until = 0.0
        if self._refresh_token:
            renewal, self._refresh_token = self._refresh_token, ""
            answer = await self._ask_token({"grant_type": "refresh_token", "refresh_token": renewal})
            if answer.status == 200:
                self._take_token(answer)
                return
        answer = await self._ask_token(
            {
                "grant_type": "password",
                "username": self._feed.username,
                "password": self._feed.password.get_secret_value(),
            }
        )
        if answer.status in (400, 401, 403, 422):
            raise PimTrouble(
                "the PIM gives no token: check client id, secret, username and password, which"
                f" `aep pims feed URL --secret -` sets{_said(answer)}",
                "credentials",
            )
        try:
            _check(answer)
        except ResourceError as error:
            raise PimTrouble(f"no token: {error}", error.reason) from error
        self._take_token(answer)

    async def _ask_token(self, body: dict[str, str]) -> PimAnswer:
        pair = f"{self._feed.client_id}:{self._feed.secret.get_secret_value()}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/json",
        }
        return await self._call("POST", TOKEN_PATH, headers, orjson.dumps(body), None)

    def _take_token(self, answer: PimAnswer) -> None:
        try:
            value = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise PimTrouble("the answer with the token is no JSON", "not_json") from error
        token = value.get("access_token") if isinstance(value, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise PimTrouble("the answer to the login holds no token", "not_json")
        renewal, seconds = value.get("refresh_token"), value.get("expires_in")
        good = float(seconds) if isinstance(seconds, int) and seconds > 0 else TOKEN_SECONDS
        self._token = token
        self._refresh_token = renewal if isinstance(renewal, str) else ""
        self._good_until = self._clock.monotonic() + max(good - BEFORE_THE_END, good / 2)

    async def _call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        if (wait := self._next_call - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        self._next_call = self._clock.monotonic() + SECONDS_BETWEEN_CALLS
        self.calls += 1
        headers |= {"Accept": "application/json"}
        try:
            return await self._rest.call(method, f"{self._feed.tenant}{path}", headers, body, read)
        except PimUnavailable as error:
            raise PimTrouble(str(error), "unreachable") from error
        except TooLarge as error:
            raise TooLargePage(str(error), "too_large") from error


def _check(answer: PimAnswer) -> None:
    """Raises the error that an answer stands for, if it is none of 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return
    words = f"the PIM answered {status}{_said(answer)}"
    error: FeedError
    if status == 429 or status == 408 or status >= 500:
        reason = "throttled" if status == 429 else SERVER_ERROR
        after = None if answer.retry_after is None else min(answer.retry_after, MAX_RETRY_AFTER)
        error = PimTrouble(words, reason, after)
    elif status == 401:
        error = PimTrouble(f"{words} to a new token", "credentials")
    elif status == 403:
        error = NoRight(f"{words}: give the connection's role the right to list it", "forbidden")
    elif status == 404 and not _is_of_the_pim(answer):
        error = ResourceError(f"{words}, but not as a PIM does: is its URL the right one?", "not_json")
    elif status == 404:
        error = Missing(words, "missing")
    elif 300 <= status < 400:
        error = PimTrouble(
            f"{words}, and no redirect is followed: is the PIM's URL the right one?", "redirect"
        )
    else:
        error = ResourceError(words, "refused")
    raise error


def _is_of_the_pim(answer: PimAnswer) -> bool:
    """True if a refusal has the PIM's own form; a proxy before it, or another server, answers otherwise."""
    return _members(answer).get("code") == answer.status


def _said(answer: PimAnswer) -> str:
    """Returns the PIM's own message in brackets, if there is one."""
    message = _members(answer).get("message")
    if not isinstance(message, str):
        return ""
    return f" ({''.join(each for each in message[:MESSAGE_CHARACTERS] if each.isprintable())})"


def _members(answer: PimAnswer) -> dict[str, Any]:
    """Returns the members of an answer that is a JSON object, none of any other."""
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
