"""`aep console`: a link into the console of the platform that runs on a data folder."""

import asyncio
import os
import socket
import sys
import webbrowser
from collections.abc import Callable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..console.address import is_loopback
from ..control.client import control
from ..google import keys as google_keys
from ..output import echo, echo_json, echo_whole, fail
from .options import DEFAULT_DATA, AsJson, Data, Google, VersionBuckets, settings


def console(
    data: Data = DEFAULT_DATA,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the link, and open no browser.")
    ] = False,
    google: Google = None,
    version_buckets: VersionBuckets = 1,
    as_json: AsJson = False,
) -> None:
    """Print a link that opens the console once, within 10 minutes, and open a browser where there is one.

    Example: aep console

    The platform must run on the data folder, and the command as its user. On a server it also prints the ssh
    command that brings the console's port to your machine. With --google the command itself serves a console
    of the project, by your credentials, until Ctrl-C; AEP_REGISTRY_KEY lets it make secrets of PIMs.
    """
    if google is not None:
        _serve_on_google(
            google, version_buckets, lambda url: _show(url, no_browser=no_browser, as_json=as_json)
        )
        return
    with control(data) as platform:
        if platform is None:
            fail(f"no platform runs on {data.absolute()}: start it with `aep serve`, or name its --data", 1)
        url: str = platform.call("POST", ("console", "links"))["url"]
    _show(url, no_browser=no_browser, as_json=as_json)


def _serve_on_google(project: str, version_buckets: int, ready: Callable[[str], None]) -> None:
    from ..console.on_google.serving import serve  # most commands start faster without it

    asyncio.run(
        serve(
            project,
            settings().rate_limits(),
            seal=google_keys.registry_seal(),
            buckets=version_buckets,
            ingest_url=os.environ.get("AEP_INGEST_URL", "https://YOUR-INGEST"),
            ready=ready,
        )
    )


def _show(url: str, *, no_browser: bool, as_json: bool) -> None:
    """Prints a link, and opens a browser where there is one."""
    if as_json:
        echo_json({"url": url})
        return
    tunnel = ssh_command(url, os.environ)
    if tunnel is not None:
        echo("From your machine, first:", err=True)
        echo_whole(f"  {tunnel}", err=True)
    echo_whole(url)
    is_opened = tunnel is None and not no_browser and has_browser(os.environ) and webbrowser.open(url)
    opened = "It was opened in the browser. " if is_opened else ""
    echo(f"{opened}It opens the console once, within 10 minutes.", err=True)


def ssh_command(url: str, environment: Mapping[str, str]) -> str | None:
    """Returns the command that makes the port of the console one of the reader's machine.

    None unless the reader came by ssh, to a console on this machine alone.
    """
    parts = urlsplit(url)
    if "SSH_CONNECTION" not in environment or not is_loopback(parts.hostname or ""):
        return None
    user = environment.get("USER") or environment.get("LOGNAME") or "USER"
    return f"ssh -N -L {parts.port}:{parts.hostname}:{parts.port} {user}@{socket.gethostname()}"


def has_browser(environment: Mapping[str, str]) -> bool:
    """True where a browser can show something: on a desktop, and not in a pipe."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
