"""Lines of the functions in Cloud Logging, by its REST API, for commands of a project's operator.

https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list and, for filters,
https://cloud.google.com/logging/docs/view/logging-query-language
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import orjson

from ..errors import GoogleFailed, NoGooglePackages
from .connection import NO_CREDENTIALS

if TYPE_CHECKING:
    from requests import Response, Session

ENDPOINT = "https://logging.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/logging.read"
PATH = "/v2/entries:list"

LINES_A_PAGE = 1_000
LINES_AT_MOST = 20_000
BYTES_A_PAGE = 32 * 1024 * 1024
"""A line has at most 256 KiB, of which these are few."""
SECONDS_AT_MOST = 60.0
CONNECTED_WITHIN, ANSWERED_WITHIN = 5.0, 30.0
CHUNK_BYTES = 64 * 1024
FILTER_AT_MOST = 20_000
"""The longest filter that Google takes, in characters."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a function: when it was written, and its fields."""

    at: datetime
    fields: Mapping[str, Any]

    @property
    def event(self) -> str:
        return self.text("event")

    def text(self, name: str) -> str:
        """Returns a field; "" if it is no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float | None:
        """Returns a field; None if it is no number."""
        value = self.fields.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def numbers(self, name: str) -> Sequence[float | None]:
        """Returns a list of numbers, with None for what is none; empty if the field is no list."""
        return [Line(self.at, {name: item}).number(name) for item in self._items(name)]

    def texts(self, name: str) -> Sequence[str]:
        """Returns a list of texts, with "" for what is none; empty if the field is no list."""
        return [item if isinstance(item, str) else "" for item in self._items(name)]

    def lists(self, name: str) -> Sequence[Sequence[str]]:
        """Returns a list of lists of texts."""
        return [Line(self.at, {name: item}).texts(name) for item in self._items(name)]

    def _items(self, name: str) -> Sequence[object]:
        value = self.fields.get(name)
        return cast("list[object]", value) if isinstance(value, list) else []


class CloudLog:
    """The log of a project. What is read of it in all is bounded, in lines, bytes and time."""

    def __init__(
        self,
        project: str,
        session: "Session",
        *,
        endpoint: str = ENDPOINT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._project = project
        self._session = session
        self._endpoint = endpoint
        self._monotonic = monotonic
        self._end = monotonic() + SECONDS_AT_MOST
        self._lines = 0

    def read(self, wanted: str, *, newest_first: bool = False) -> Iterator[Line]:
        """Yields the lines that the filter wants. Raises GoogleFailed."""
        body: dict[str, Any] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": wanted,
            "orderBy": "timestamp desc" if newest_first else "timestamp asc",
            "pageSize": LINES_A_PAGE,
        }
        while True:
            page = self._page(body)
            entries = page.get("entries") or []
            for entry in entries:
                if (line := _line(entry)) is not None:
                    self._lines += 1
                    yield line
            token = page.get("nextPageToken")
            if not token:
                return
            if self._lines >= LINES_AT_MOST:
                raise GoogleFailed(f"there are more than {LINES_AT_MOST:,} lines: narrow it by --since")
            body["pageToken"] = token

    def _page(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """One page, which may be empty though more follow."""
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        left = self._end - self._monotonic()
        if left <= 0:
            raise GoogleFailed(f"Cloud Logging took more than {SECONDS_AT_MOST:g} s: narrow it by --since")
        try:
            with self._session.post(
                self._endpoint + PATH,
                json=body,
                timeout=(CONNECTED_WITHIN, min(ANSWERED_WITHIN, left)),
                stream=True,
                allow_redirects=False,
            ) as answer:
                return self._parsed(answer)
        except (RequestException, GoogleAuthError) as error:
            raise GoogleFailed(
                f"Cloud Logging cannot be asked: {type(error).__name__}: {error}"[:300]
            ) from error

    def _parsed(self, answer: "Response") -> Mapping[str, Any]:
        read = bytearray()
        for chunk in answer.iter_content(CHUNK_BYTES):
            read += chunk
            if len(read) > BYTES_A_PAGE:
                raise GoogleFailed(f"Cloud Logging answers with more than {BYTES_A_PAGE:,} bytes a page")
            if self._monotonic() > self._end:
                raise GoogleFailed(
                    f"Cloud Logging took more than {SECONDS_AT_MOST:g} s: narrow it by --since"
                )
        try:
            page = orjson.loads(read)
        except orjson.JSONDecodeError:
            page = None
        if not isinstance(page, dict):
            raise GoogleFailed(f"Cloud Logging answered {answer.status_code} with no JSON object")
        parsed = cast("dict[str, Any]", page)
        if answer.status_code == 200:
            return parsed
        words = str((parsed.get("error") or {}).get("message", ""))[:200]
        cure = {
            403: ": reading takes the role roles/logging.viewer",
            429: ": Google allows 60 such calls a minute in a project; try again in a minute",
        }.get(answer.status_code, "")
        raise GoogleFailed(f"Cloud Logging answered {answer.status_code} {words}{cure}")


@contextmanager
def cloud_log_of(project: str) -> Iterator[CloudLog]:
    """Opens the log of a project by the operator's own credentials.

    Raises NoGooglePackages, and GoogleFailed if there are no credentials.
    """
    with _session() as session:
        yield CloudLog(project, session, endpoint=ENDPOINT)


def _session() -> "Session":
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession
    except ImportError as error:
        raise NoGooglePackages(
            "--google needs Google's library of credentials: `pip install google-auth requests`"
        ) from error
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise GoogleFailed(NO_CREDENTIALS) from error
    return AuthorizedSession(credentials)


def quoted(text: str) -> str:
    """Returns the text as a filter has it."""
    return json.dumps(text, ensure_ascii=False)


def _line(entry: Any) -> Line | None:
    """None for an entry that is no JSON line."""
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, Any]", entry)
    payload, at = fields.get("jsonPayload"), fields.get("timestamp")
    if not isinstance(payload, dict) or not isinstance(at, str):
        return None
    try:
        return Line(datetime.fromisoformat(_microseconds(at)), cast("dict[str, Any]", payload))
    except ValueError:
        return None


def _microseconds(at: str) -> str:
    """Google writes nanoseconds, which Python refuses."""
    whole, dot, rest = at.rstrip("Z").partition(".")
    return f"{whole}{dot}{rest[:6]}+00:00"
