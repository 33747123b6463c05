"""Compares the archive that each function of a stack runs with the one that was deployed last.

A function has it in its answer to /health. The private ones answer nobody outside, and with a domain only
manage can be reached. For these Cloud Run is asked: the newest revision that is ready has the archive in a
variable.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import orjson
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from event_platform.domain.validation_words import json_words, words_of

from ..errors import BadOutputs, GoogleFailed, NoGooglePackages
from ..runtime import unanswered
from .findings import Check, ok, problem

MAX_OUTPUTS = 1024 * 1024
MAX_ANSWER = 1024 * 1024
RUN_API = "https://run.googleapis.com/v2"
ARCHIVE = "AEP_ARCHIVE"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SIGN_IN = "`gcloud auth application-default login`, as somebody with roles/run.viewer"
_SHORT = aiohttp.ClientTimeout(total=30)

Text = Annotated[str, Field(min_length=1, max_length=2000)]


class StackOutputs(BaseModel):
    """The outputs of `pulumi stack output --json` that are needed."""

    model_config = ConfigDict(frozen=True, alias_generator=AliasGenerator(to_camel))

    project: Text
    region: Text
    archive: Text
    ingest_url: Text
    functions: Annotated[Mapping[str, Text], Field(min_length=1, max_length=100)]


def read_outputs(source: str) -> StackOutputs:
    """Reads a file, or standard input for `-`. Raises BadOutputs that names what is wrong."""
    try:
        if source == "-":
            text = sys.stdin.buffer.read(MAX_OUTPUTS + 1)
        else:
            with Path(source).open("rb") as file:
                text = file.read(MAX_OUTPUTS + 1)
    except OSError as error:
        raise BadOutputs(f"--stack {source} cannot be read: {error.strerror or error}") from error
    try:
        if len(text) > MAX_OUTPUTS:
            raise ValueError(f"it has more than {MAX_OUTPUTS} bytes")
        return StackOutputs.model_validate(orjson.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {words_of(first)}"
    except orjson.JSONDecodeError as error:
        wrong = json_words(error)
    except ValueError as error:
        wrong = str(error)
    raise BadOutputs(
        f"--stack {source} is not what `pulumi stack output --json` of this version prints ({wrong})"
    )


@dataclass(frozen=True, slots=True)
class Running:
    """The archive that a function runs.

    `waiting` is a newer revision that is not ready, "" if there is none.
    """

    archive: str
    source: str
    waiting: str = ""


class _NotFoundOut(Exception):
    """Raised when the archive of a function cannot be found out; the text says what to do."""


async def checks(
    session: aiohttp.ClientSession, stack: StackOutputs, *, api: str = RUN_API
) -> AsyncIterator[Check]:
    """Yields one check for each function of the stack."""
    google = _CloudRun(session, stack, api)
    for name, url in stack.functions.items():
        yield await _check(session, google, stack, name, url)


async def _check(
    session: aiohttp.ClientSession, google: "_CloudRun", stack: StackOutputs, name: str, url: str
) -> Check:
    title = f"release of {name}"
    try:
        running = await _running_by_health(session, url) or await google.running(name)
    except (NoGooglePackages, GoogleFailed, _NotFoundOut) as error:
        return problem(title, str(error))
    if running.archive != stack.archive:
        return problem(
            title,
            f"runs {running.archive or 'no known archive'} ({running.source}) and not {stack.archive} as the"
            " stack says: its build or its start failed. See the log of its build; then `pulumi config set"
            " attempt N`, with N one higher than before (2 at first), and `pulumi up`",
        )
    if running.waiting:
        return problem(
            title,
            f"its newest revision {running.waiting} is not ready: see the log of {name}, then `pulumi up`",
        )
    return ok(title, f"runs {running.archive} ({running.source})")


async def _running_by_health(session: aiohttp.ClientSession, url: str) -> Running | None:
    """Returns the archive by the function's own answer; None if it gives none."""
    try:
        async with session.get(f"{url}/health", timeout=_SHORT) as answer:
            if answer.status != 200:
                return None
            health = _object(await _read(answer))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    version = health.get("version")
    return Running(str(health.get("archive") or ""), f"/health, version {version}" if version else "/health")


class _CloudRun:
    """Cloud Run's API, with Google's usual credentials, which are looked up once."""

    def __init__(self, session: aiohttp.ClientSession, stack: StackOutputs, api: str) -> None:
        self._session = session
        self._services = f"{api}/projects/{stack.project}/locations/{stack.region}/services"
        self._project = stack.project
        self._token: str | GoogleFailed | NoGooglePackages | None = None

    async def running(self, name: str) -> Running:
        """Returns the archive by Cloud Run. Raises _NotFoundOut, NoGooglePackages, GoogleFailed."""
        service = await self._get(f"{self._services}/{name}")
        ready, newest = (_last(service.get(key)) for key in ("latestReadyRevision", "latestCreatedRevision"))
        if not ready:
            return Running("", "Cloud Run: no revision of it is ready", newest)
        revision = await self._get(f"{self._services}/{name}/revisions/{ready}")
        archives = [
            str(variable.get("value", ""))
            for container in revision.get("containers") or []
            for variable in container.get("env") or []
            if variable.get("name") == ARCHIVE
        ]
        return Running(
            archives[0] if archives else "", f"Cloud Run: {ready}", newest if newest != ready else ""
        )

    async def _get(self, url: str) -> dict[str, Any]:
        token = await self._access_token()
        headers = {"Authorization": f"Bearer {token}", "x-goog-user-project": self._project}
        try:
            async with self._session.get(url, headers=headers, timeout=_SHORT) as answer:
                status, text = answer.status, await _read(answer)
            return _object(text) if status == 200 else self._refused(status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _NotFoundOut(f"Cloud Run does not answer ({unanswered.why(error)})") from error

    async def _access_token(self) -> str:
        """Returns a token, which is looked up once. Raises NoGooglePackages, GoogleFailed."""
        if self._token is None:
            try:
                self._token = await asyncio.to_thread(access_token)
            except (GoogleFailed, NoGooglePackages) as error:
                self._token = error
        if isinstance(self._token, str):
            return self._token
        raise self._token

    def _refused(self, status: int) -> NoReturn:
        if status == 404:
            raise _NotFoundOut(f"there is no such function in {self._project}: run `pulumi up --refresh`")
        raise _NotFoundOut(f"Cloud Run answered {status}: sign in by {_SIGN_IN}")


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Returns the body. Raises ValueError for one that is too large to be such an answer."""
    text = b""
    async for part in answer.content.iter_any():
        text += part
        if len(text) > MAX_ANSWER:
            raise ValueError(f"more than {MAX_ANSWER} bytes")
    return text


def _object(text: bytes) -> dict[str, Any]:
    """Returns the JSON object of the text. Raises ValueError."""
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def access_token() -> str:
    """Returns a token of Google's usual credentials. Raises NoGooglePackages, GoogleFailed."""
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
    except ImportError as error:
        raise NoGooglePackages(
            "what Google runs is asked for with `pip install google-auth requests`"
        ) from error
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        credentials.refresh(Request())
    except GoogleAuthError as error:
        raise GoogleFailed(
            f"Google does not say what runs without credentials: sign in by {_SIGN_IN}"
        ) from error
    return credentials.token


def _last(path: Any) -> str:
    return str(path or "").rpartition("/")[2]
