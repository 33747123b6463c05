"""The management API as commands call it: as an app, with its three headers, or as the operator of a folder.

Every failure of an app's call ends the command with a line that says what to do.
"""

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol
from urllib.parse import quote

import orjson
import typer

from event_platform import USER_AGENT

from ..output import fail
from ..runtime import unanswered
from .operator_records import OperatorRecords
from .options import DEFAULT_DATA, Data

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

ADVICE = {
    "X-PIM-TOKEN is not valid": ". Give --token one that this PIM has issued within the last hour",
    "is not configured for": ". Check --pim-url, or add the PIM with `aep pims add URL`",
}
"""The advice that follows a refusal, by what it says."""
TIMEOUT_SECONDS = 30
LONGEST_ANSWER = 64 * 1024 * 1024
DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option("--url", envvar="AEP_URL", help="The platform's base URL.")]
PimUrl = Annotated[str, typer.Option("--pim-url", envvar="AEP_PIM_URL", help="The PIM's base URL.")]
ClientId = Annotated[
    str,
    typer.Option(
        "--client-id",
        envvar=["AEP_CLIENT_ID", "AEP_PIM_CLIENT_ID"],
        help="The connection's or App's client id.",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="AEP_PIM_TOKEN", help="Its access token; - reads a line of standard input."
    ),
]
ByOperator = Annotated[
    bool,
    typer.Option(
        "--operator",
        help="As the operator of the data folder, over all clients; --pim-url and --client-id name one.",
    ),
]

Record = Mapping[str, Any]


class Management(Protocol):
    """The actions on subscribers and subscriptions. Records are as answers of the API have them."""

    def subscribers(self) -> Iterator[Record]:
        """Reads all of the client, or as the operator of all clients."""
        ...

    def subscriptions(self, subscriber_id: str | None) -> Iterator[Record]:
        """Reads those of a subscriber, or of all."""
        ...

    def create_subscriber(self, body: Any) -> Record: ...

    def create_subscription(self, subscriber_id: str, body: Any) -> Record: ...

    def subscriber(self, method: str, subscriber_id: str, body: Any = None) -> Record:
        """Reads, changes or deletes one: GET, PATCH, DELETE."""
        ...

    def subscription(
        self, method: str, subscription_id: str, body: Any = None, *, action: str | None = None
    ) -> Record:
        """Reads, changes or deletes one, or has it suspended or resumed by the `action`."""
        ...

    def act_on_all(
        self, subscriber_id: str, action: str, body: Any, is_meant: Callable[[Record], bool]
    ) -> Sequence[Record]:
        """Has those of a subscriber that are meant suspended or resumed by the `action`."""
        ...


class App:
    """The platform as one client of a PIM sees it. Every failure ends the command."""

    def __init__(self, url: str, pim_url: str, client_id: str, token: str, *, or_else: str = "") -> None:
        given = {
            "--url or AEP_URL": url,
            "--pim-url or AEP_PIM_URL": pim_url,
            "--client-id or AEP_CLIENT_ID": client_id,
            "--token - or AEP_PIM_TOKEN": token,
        }
        if missing := [names for names, value in given.items() if not value.strip()]:
            fail(f"give {', '.join(missing)}{or_else}")
        if not url.startswith(("http://", "https://")):
            fail(f"--url {url}: give the platform's base URL, such as {DEFAULT_URL}")
        self._base = f"{url.rstrip('/')}/api/v1"
        token = sys.stdin.readline().strip() if token == "-" else token.strip()  # noqa: S105 - a mark
        identity = {
            "X-PIM-URL": pim_url.strip(),
            "X-PIM-CLIENT-ID": client_id.strip(),
            "X-PIM-TOKEN": token,
        }
        self._headers = {"User-Agent": USER_AGENT, **identity}
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None
        self._subscribers_of: dict[str, str] = {}
        """The subscriber of each subscription that was listed."""

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    def subscribers(self) -> Iterator[Record]:
        yield from self._call("GET", ["subscribers"])

    def subscriptions(self, subscriber_id: str | None) -> Iterator[Record]:
        wanted = [subscriber_id] if subscriber_id is not None else [each["id"] for each in self.subscribers()]
        for each in wanted:
            found = self._call("GET", ["subscribers", each, "subscriptions"])
            self._subscribers_of |= {record["id"]: each for record in found}
            yield from found

    def create_subscriber(self, body: Any) -> Record:
        return self._call("POST", ["subscribers"], body)

    def create_subscription(self, subscriber_id: str, body: Any) -> Record:
        return self._call("POST", ["subscribers", subscriber_id, "subscriptions"], body)

    def subscriber(self, method: str, subscriber_id: str, body: Any = None) -> Record:
        return self._call(method, ["subscribers", subscriber_id], body)

    def subscription(
        self, method: str, subscription_id: str, body: Any = None, *, action: str | None = None
    ) -> Record:
        """Calls it whichever subscriber has the subscription."""
        is_known = subscription_id in self._subscribers_of
        if is_known or any(each["id"] == subscription_id for each in self.subscriptions(None)):
            path = ["subscribers", self._subscribers_of[subscription_id], "subscriptions", subscription_id]
            return self._call(method, path + ([action] if action is not None else []), body)
        return fail(
            f"no subscription {subscription_id} of this client: `aep subscriptions list` shows them", 1
        )

    def act_on_all(
        self, subscriber_id: str, action: str, body: Any, is_meant: Callable[[Record], bool]
    ) -> Sequence[Record]:
        return [
            self.subscription("POST", each["id"], body, action=action)
            for each in self.subscriptions(subscriber_id)
            if is_meant(each)
        ]

    def _call(self, method: str, path: Sequence[str], body: Any = None) -> Any:
        return self._runner.run(
            self._answer(method, "/".join([self._base, *(quote(part, safe="") for part in path)]), body)
        )

    async def _answer(self, method: str, url: str, body: Any) -> Any:
        import aiohttp  # here, as a server would keep it in memory for nothing
        import yarl

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        request = self._session.request(method, yarl.URL(url, encoded=True), json=body, allow_redirects=False)
        try:
            async with request as response:
                if 300 <= response.status < 400:  # which would take the token elsewhere
                    fail(f"{self._base} redirects to {response.headers.get('Location')}: change --url", 1)
                answer = orjson.loads(await _read(response))
            if response.status >= 400:
                _refused(response.status, "; ".join(each["message"] for each in answer["errors"]))
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            why = unanswered.why(error)
            fail(f"no answer from {self._base} ({why}): check --url or AEP_URL, and whether it runs", 1)
        return answer


async def _read(response: "aiohttp.ClientResponse") -> bytearray:
    """Returns the body. Raises ValueError if it is longer than any answer of a platform."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise ValueError("the answer is too long")
    return body


def _refused(status: int, messages: str) -> NoReturn:
    usual = ". Check --pim-url, --client-id and the token" if status == HTTPStatus.UNAUTHORIZED else ""
    advice = next((words for part, words in ADVICE.items() if part in messages), usual)
    fail(f"the platform answered {status}: {messages}{advice}", 1)


def managing(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say who calls which platform; it gets the `Management` first.

    `--pim-url` and `--client-id` count for the operator only where they are typed: the variables are an
    app's.
    """

    @functools.wraps(command)
    def run(
        context: typer.Context,
        *,
        url: str,
        pim_url: str,
        client_id: str,
        token: str,
        operator: bool,
        data: "Path",
        **more: Any,
    ) -> None:
        with contextlib.ExitStack() as stack:
            management: Management
            _check_side(context, operator=operator)
            if operator:
                named = {
                    name: value if _is_typed(context, name) else None
                    for name, value in (("pim_url", pim_url), ("client_id", client_id))
                }
                management = OperatorRecords(data, **named)
            else:
                or_else = "; or --operator, to work on a data folder"
                management = stack.enter_context(App(url, pim_url, client_id, token, or_else=or_else))
            command(management, **more)

    _, *own = inspect.signature(command).parameters.values()
    shared = list(inspect.signature(_shared).parameters.values())
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [*own, *shared]
    run.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in [first, *parameters]}
    return run


def _shared(
    url: Url = DEFAULT_URL,
    pim_url: PimUrl = "",
    client_id: ClientId = "",
    token: Token = "",
    operator: ByOperator = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """The options of all these commands."""


def _check_side(context: typer.Context, *, operator: bool) -> None:
    """Ends the command if an option was typed that counts for the other side only."""
    if operator and (others := [name for name in ("url", "token") if _is_typed(context, name)]):
        fail(f"--{others[0]} is an app's: --operator works on the data folder")
    if not operator and _is_typed(context, "data"):
        fail("--data is the operator's: give --operator too")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
