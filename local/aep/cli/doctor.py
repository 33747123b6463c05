"""`aep doctor`: checks the environment on this machine, or a platform that was deployed."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from ..output import echo, echo_json, fail
from .options import DEFAULT_DATA, AsJson, Data, unknown_variables

if TYPE_CHECKING:
    from ..doctor.findings import Check

WAIT_SECONDS = 420.0
"""The seconds to wait for a retry: the first one comes after 5 minutes, on Google Cloud with the next
minute's tick.
"""


def doctor(
    data: Data = DEFAULT_DATA,
    pims_file: Annotated[
        str | None, typer.Option("--pims", metavar="FILE", help="The JSON list of PIMs, as for `aep serve`.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate chain, as for `aep serve`.")
    ] = None,
    with_tools: Annotated[
        bool, typer.Option("--all", help="Check also what tests, emulators and deploying need.")
    ] = False,
    deployed: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Check a running platform instead: its management API's base URL."),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With --deployed: what `pulumi stack output --json` printed; - for standard input.",
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --deployed: an `aep inbox` that the platform reaches."),
    ] = None,
    email: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --endpoint: who is told by mail, as a subscriber."),
    ] = None,
    google: Annotated[
        str | None,
        typer.Option(
            "--google", metavar="PROJECT", help="Check what the Firestore of a Google Cloud project holds."
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="With --endpoint: seconds in which the retry must come.")
    ] = WAIT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Check what a server needs, one line each, with what to do.

    Example: aep doctor --data /var/lib/aep

    Changes nothing. Each PIM is asked about a token that was made up, and about that of AEP_PIM_TOKEN if
    AEP_PIM_URL and AEP_PIM_CLIENT_ID are set too: so it says what an app would be answered. Exit status 1
    only when something is broken that `aep serve` needs.

    With --deployed a running platform is checked from outside, and the status is 1 when anything fails.
    Its address of ingest is AEP_INGEST_URL (else the stack's, else URL/ingest). With --stack it tells whether
    each of the six functions runs what was deployed last. AEP_INGEST_KEY sends a test event in; AEP_PIM_URL,
    AEP_PIM_CLIENT_ID and AEP_PIM_TOKEN call as a client; --endpoint makes subscriptions for the time of the
    check and sends them test events, a retry included. --google looks into the project's Firestore by your
    own credentials, alone or beside --deployed: at the registry of PIMs, and at feeds.
    """
    if deployed is None and any(each is not None for each in (endpoint, email, stack)):
        fail("--stack, --endpoint and --email go with --deployed URL")
    if deployed is not None or google is not None:
        checks_of: list[AsyncIterator[Check]] = []
        if deployed is not None:
            checks_of.append(_of_deployed(deployed, stack, endpoint, email, wait))
        if google is not None:
            checks_of.append(_of_project(google))
        found = asyncio.run(_print_each(checks_of, as_json=as_json))
        failed = any(check.state == "problem" for check in found)
    else:
        from ..doctor import machine as checks  # so that the other commands start without what it needs

        found = checks.everything(
            data, pims_file, unknown_variables(os.environ), tls_cert=tls_cert, with_tools=with_tools
        )
        failed = any(check.needed for check in found)
        if not as_json:
            for check in found:
                _show(check)
    if as_json:
        echo_json([asdict(check) for check in found])
    if failed:
        raise SystemExit(1)


def _of_deployed(
    url: str, stack: str | None, endpoint: str | None, email: str | None, wait: float
) -> AsyncIterator["Check"]:
    from ..doctor import deployed, release

    for name, value in (("--deployed", url), ("--endpoint", endpoint)):
        if value is not None and (
            urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc
        ):
            fail(f"{name} {value}: give a base URL, such as https://events.example.com")
    receiver = None
    if endpoint is not None:
        if email is None:
            fail(
                "--endpoint needs --email ADDRESS: who is told by mail that the test's subscriptions are gone"
            )
        receiver = deployed.Receiver(endpoint, email)
    outputs = release.read_outputs(stack) if stack is not None else None
    return deployed.everything(url, deployed.Credentials(), receiver, retry_within=wait, stack=outputs)


def _of_project(project: str) -> AsyncIterator["Check"]:
    from ..doctor import project as checks

    return checks.everything(project)


async def _print_each(checks: Sequence[AsyncIterator["Check"]], *, as_json: bool) -> list["Check"]:
    """Prints each check when it is done, as some take minutes."""
    found: list[Check] = []
    for each in checks:
        async for check in each:
            found.append(check)
            if not as_json:
                _show(check)
    return found


def _show(check: "Check") -> None:
    head = f"{check.state:8} {check.name:20} "
    echo(head + check.detail, hanging=len(head))
