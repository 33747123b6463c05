"""Calls the platform that runs on a data folder, for commands."""

import contextlib
import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from event_platform.domain.errors import (
    Conflict,
    EventPlatformError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Problem,
    StoreUnavailable,
)

from ..errors import ControlFailed
from . import address

SECONDS = 120.0
"""The time that one call may take."""
LONGEST_ANSWER = 64 * 1024 * 1024
_ERRORS: Mapping[int, type[EventPlatformError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    503: StoreUnavailable,
}


class Control:
    """The platform that runs on a folder."""

    def __init__(self, folder: Path, connection: socket.socket) -> None:
        self._folder = folder
        self._http = http.client.HTTPConnection("control", timeout=SECONDS)
        self._http.auto_open = 0  # it has the connection to the socket
        self._http.sock = connection

    def call(
        self, method: str, path: Sequence[str], body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Returns the answer's JSON; `path` are the parts of the path, as they are.

        Raises what the use case raised: InvalidRequest, NotFound, Conflict, Forbidden, StoreUnavailable. Also
        ControlFailed.
        """
        sent = b"" if body is None else orjson.dumps(body)
        try:
            self._http.request(
                method,
                "/" + "/".join(quote(part, safe="") for part in path),
                sent,
                {"Content-Type": "application/json", **(headers or {})},
            )
            response = self._http.getresponse()
            answer = response.read(LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise ControlFailed(
                f"the platform on {self._folder} has not answered ({error or type(error).__name__}): it may"
                " have stopped meanwhile. Look whether it was done, then run the command again"
            ) from error
        return result_of(response.status, answer)


@contextlib.contextmanager
def control(folder: Path) -> Iterator[Control | None]:
    """Yields the platform that runs on the folder; None if none does, or it has no control socket.

    A command then works on the folder's file. Raises ControlFailed if there is one that cannot be called.
    """
    try:
        connection = address.connect(folder, SECONDS)
    except PermissionError as error:
        raise ControlFailed(
            f"{folder / address.SOCKET} is another user's: run the command as the user of the platform"
        ) from error
    except OSError as error:
        raise ControlFailed(
            f"the platform on {folder} cannot be called: {error.strerror or error}"
        ) from error
    with connection or contextlib.nullcontext():
        yield None if connection is None else Control(folder, connection)


def result_of(status: int, answer: bytes) -> Any:
    """Returns the JSON of an answer. Raises what `Control.call` raises."""
    if status < HTTPStatus.BAD_REQUEST:
        return orjson.loads(answer)
    try:
        problems = [_problem(**each) for each in orjson.loads(answer)["errors"]]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ControlFailed(f"the platform has answered {status} and nothing that can be read") from error
    said = "; ".join(map(str, problems))
    if status == HTTPStatus.BAD_REQUEST:
        raise InvalidRequest(*problems)
    if status == HTTPStatus.NOT_FOUND and said.startswith("no such route"):
        raise ControlFailed(f"the platform that runs is of another version ({said}): restart it")
    known = _ERRORS.get(status)
    raise ControlFailed(f"the platform has answered {status}: {said}") if known is None else known(said)


def _problem(message: str, field: str = "") -> Problem:
    return Problem(field, message.removeprefix(f"{field}: "))
