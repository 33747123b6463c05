"""`aep console`: a link into the console of the platform that runs on a data folder."""

import os
import socket
import sys
import webbrowser
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..console.address import is_loopback
from ..control.client import control
from ..output import echo, echo_json, fail
from .options import DEFAULT_DATA, AsJson, Data


def console(
    data: Data = DEFAULT_DATA,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the link, and open no browser.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a link that opens the console once, within 10 minutes, and open a browser where there is one.

    Example: aep console

    The platform must run on the data folder, and the command as its user. On a server it also prints the ssh
    command that brings the console's port to your machine.
    """
    with control(data) as platform:
        if platform is None:
            fail(f"no platform runs on {data.absolute()}: start it with `aep serve`, or name its --data", 1)
        url: str = platform.call("POST", ("console", "links"))["url"]
    if as_json:
        echo_json({"url": url})
        return
    echo(url)
    if (tunnel := ssh_command(url, os.environ)) is not None:
        echo(f"From your machine, first: {tunnel}", err=True)
    elif not no_browser and has_browser(os.environ) and webbrowser.open(url):
        echo("It was opened in the browser. It opens the console once, within 10 minutes.", err=True)
        return
    echo("It opens the console once, within 10 minutes.", err=True)


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
