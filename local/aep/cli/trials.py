"""`aep test` and `aep explain`: try a subscription as its app, through the management API."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from event_platform import USER_AGENT

from ..output import console, echo, echo_json, fail, text
from ..runtime import unanswered
from .event_files import EventFile, event_in
from .options import AsJson

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_SECONDS = 30
ADVICE = {
    "X-PIM-TOKEN is not valid": ". Give --token one that this PIM has issued within the last hour",
    "is not configured for": ". Check --pim-url, or add the PIM with `aep pims add URL`",
}
"""The advice that follows a refusal, by what it says."""

Subscription = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription's id.")]
Url = Annotated[str, typer.Option("--url", envvar="AEP_URL", help="The platform's base URL.")]
PimUrl = Annotated[str, typer.Option("--pim-url", envvar="AEP_PIM_URL", help="The PIM's base URL.")]
ClientId = Annotated[
    str, typer.Option("--client-id", envvar="AEP_PIM_CLIENT_ID", help="The connection's or App's client id.")
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="AEP_PIM_TOKEN", help="Its access token; - reads a line of standard input."
    ),
]
DEFAULT_URL = "http://127.0.0.1:8080"


class _App:
    """The platform as one client of a PIM sees it. Every failure ends the command."""

    def __init__(self, url: str, pim_url: str, client_id: str, token: str) -> None:
        given = {"--url": url, "--pim-url": pim_url, "--client-id": client_id, "--token": token}
        if missing := [name for name, value in given.items() if not value.strip()]:
            fail(f"{', '.join(missing)} must be given (see --help for the environment variables)")
        if not url.startswith(("http://", "https://")):
            fail(f"--url {url}: give the platform's base URL, such as {DEFAULT_URL}")
        self._base = f"{url.rstrip('/')}/api/v1"
        token = sys.stdin.readline().strip() if token == "-" else token.strip()  # noqa: S105 - a mark
        identity = {"X-PIM-URL": pim_url, "X-PIM-CLIENT-ID": client_id, "X-PIM-TOKEN": token}
        self._headers = {"User-Agent": USER_AGENT, **identity}

    async def about(self, subscription: str, action: str, body: Any) -> Any:
        """Returns the answer of `POST …/subscriptions/{id}/{action}`, whichever subscriber has the
        subscription.
        """
        import aiohttp  # here, as a server would keep it in memory for nothing

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
                for subscriber in await self._call(session, "GET", "/subscribers"):
                    path = f"/subscribers/{subscriber['id']}/subscriptions"
                    if any(each["id"] == subscription for each in await self._call(session, "GET", path)):
                        return await self._call(session, "POST", f"{path}/{subscription}/{action}", body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            fail(f"no answer from {self._base} ({unanswered.why(error)}): check --url", 1)
        return fail(f"no subscription {subscription} of this client", 1)

    async def _call(self, session: "aiohttp.ClientSession", method: str, path: str, body: Any = None) -> Any:
        async with session.request(method, self._base + path, json=body) as response:
            answer = orjson.loads(await response.read())
        if response.status >= 400:
            messages = "; ".join(each["message"] for each in answer["errors"])
            advice = next((words for part, words in ADVICE.items() if part in messages), "")
            fail(f"the platform answered {response.status}: {messages}{advice}", 1)
        return answer


def send_test(
    subscription: Subscription,
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="One of its events; the first if none.")
    ] = None,
    url: Url = DEFAULT_URL,
    pim_url: PimUrl = "",
    client_id: ClientId = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Send an example event to a subscription now, and show what its endpoint answered.

    Example: aep test ID --pim-url https://pim.example.com --client-id erp

    The token comes from AEP_PIM_TOKEN or standard input. Nothing is counted or logged;
    suspended subscriptions can be tested. Exit status 0 when the endpoint took it.
    """
    body = {} if event_type is None else {"type": event_type}
    shown = asyncio.run(_App(url, pim_url, client_id, token).about(subscription, "test", body))
    if as_json:
        echo_json(shown)
    else:
        _report_test(shown)
    raise typer.Exit(0 if shown["outcome"] == "delivered" else 1)


def explain(
    subscription: Subscription,
    event: EventFile,
    url: Url = DEFAULT_URL,
    pim_url: PimUrl = "",
    client_id: ClientId = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Say whether a subscription gets an event, and if not, which part of it says no.

    Example: aep explain ID --event event.json --pim-url https://pim.example.com

    The token is given as for `aep test`; type and data of an event are enough.
    Exit status 0 when the subscription gets it.
    """
    if str(event) == "-" and token == "-":  # noqa: S105 - a mark
        fail("only one of --event and --token can be read from standard input")
    body = event_in(event)
    found = asyncio.run(_App(url, pim_url, client_id, token).about(subscription, "explain", body))
    if as_json:
        echo_json(found)
    else:
        out = console()
        out.print("gets it" if found["matches"] else "does not get it", soft_wrap=True)
        for check in found["checks"]:
            mark = text("yes" if check["passes"] else "NO ", "green" if check["passes"] else "red")
            out.print(mark, text(f"{check['part']:7}"), text(check["message"]), soft_wrap=True)
    raise typer.Exit(0 if found["matches"] else 1)


def _report_test(shown: dict[str, Any]) -> None:
    answered = f"answered {shown['status']}" if shown["status"] else f"{shown['reason']}: {shown['detail']}"
    console().print(
        text(shown["outcome"], "green" if shown["outcome"] == "delivered" else "red"),
        text(f"{answered} after {shown['milliseconds']} ms"),
        soft_wrap=True,
    )
    request = shown["request"]
    lines = [f"{name}: {value}" for name, value in request["headers"].items()]
    echo("\n".join(["", f"POST {request['url']}", *lines, "", request["body"]]))
    if shown["response"]:
        echo(f"\nanswer:\n{shown['response']['body'].rstrip()}")
