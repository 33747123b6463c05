"""The address that the console listens on, and the URL that people reach it at."""

import ipaddress
from dataclasses import dataclass

from ..serving.server import Tls

APPS = "/console/app"
"""The path of the console for apps, on the public port."""
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound to them here


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on; port 0 is for no console. `url` is what the operator has set, if anything."""

    host: str
    port: int
    tls: Tls | None = None
    url: str | None = None

    def problem(self) -> str | None:
        """Returns why the console may not be served there; None if it may, or is off."""
        if self.port == 0 or is_loopback(self.host):
            return None
        if self.url is not None and self.url.startswith("https:"):
            return None
        if self.tls is None:
            return (
                f"--console-host {self.host} is reached from other machines, so the console needs TLS there:"
                " give --tls-cert and --tls-key, or set AEP_CONSOLE_URL to the https URL of the proxy before"
                " it"
            )
        if self.url is not None or self.host in ALL_ADDRESSES:
            return (
                f"the console on --console-host {self.host} answers to its own name only: set AEP_CONSOLE_URL"
                " to the https URL that people reach it at"
            )
        return None


def is_loopback(host: str) -> bool:
    """True for a name or an address of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
