"""`aep test` and `aep explain`: try a subscription as its app, through the management API."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from event_platform.domain.events import catalog

from ..output import echo, echo_json, echo_styled, echo_whole, fail, text
from .event_files import EventFile, event_in
from .management import DEFAULT_URL, App, ClientId, PimUrl, Token, Url
from .options import AsJson

Subscription = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription's id.")]


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
    body = {} if event_type is None else {"type": catalog.load().in_full(event_type)}
    with App(url, pim_url, client_id, token) as app:
        shown = app.subscription("POST", subscription, body, action="test")
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
    with App(url, pim_url, client_id, token) as app:
        found = app.subscription("POST", subscription, body, action="explain")
    if as_json:
        echo_json(found)
    else:
        echo(f"The subscription {'gets it' if found['matches'] else 'does not get it'}.")
        for check in found["checks"]:
            mark = text("yes" if check["passes"] else "NO ", "green" if check["passes"] else "red")
            echo_styled(mark, text(f"{check['part']:7}"), *map(text, check["message"].split()))
    raise typer.Exit(0 if found["matches"] else 1)


def _report_test(shown: Mapping[str, Any]) -> None:
    answered = f"answered {shown['status']}" if shown["status"] else f"{shown['reason']}: {shown['detail']}"
    echo_styled(
        text(f"{shown['outcome']}:", "green" if shown["outcome"] == "delivered" else "red"),
        *map(text, f"{answered} after {shown['milliseconds']} ms".split()),
    )
    request = shown["request"]
    lines = [f"{name}: {value}" for name, value in request["headers"].items()]
    echo("\n".join(["", f"POST {request['url']}", *lines, ""]))
    echo_whole(request["body"])
    if shown["response"]:
        echo("\nanswer:")
        echo_whole(shown["response"]["body"].rstrip())
