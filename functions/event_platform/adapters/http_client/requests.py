"""Requests: the target of a URL, and the bytes of a request to it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...domain.urls import DEFAULT_PORTS, check_endpoint_url, host_and_port


class InvalidUrl(ValueError):
    """Raised when there is no sending to a URL; says why, without it."""


Headers = Sequence[tuple[str, str]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 5.6.2
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that say where a request goes and where it ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The target of a URL, and the beginning of a request. `origin` names the connections that it can use."""

    origin: str
    host: str
    port: int
    is_tls: bool
    start: str


@lru_cache(maxsize=4096)
def target_of(method: str, url: str) -> Target:
    """Path and query are sent as they were given. Raises InvalidUrl."""
    try:
        check_endpoint_url(url, allow_http=True)
    except ValueError as error:
        raise InvalidUrl(f"the URL {error}") from error
    host, port = host_and_port(url)
    scheme, _, rest = url.partition("#")[0].partition("://")
    scheme = scheme.lower()
    is_tls = scheme == "https"
    bare = host.rstrip(".")  # a name's last dot is for the resolver only
    shown = f"[{bare}]" if ":" in bare else bare
    if port != DEFAULT_PORTS[scheme]:
        shown += f":{port}"
    path = rest[len(re.split(r"[/?]", rest, maxsplit=1)[0]) :]
    if not path.startswith("/"):
        path = f"/{path}"
    start = f"{method} {path} HTTP/1.1\r\nHost: {shown}\r\n"
    return Target(f"{scheme}://{host}:{port}", host, port, is_tls, start)


def request_to(target: Target, headers: Headers, body: bytes | None) -> tuple[bytes, bytes]:
    """Head and body of a request. Raises ValueError for headers that would be others when they arrive."""
    lines = "".join([f"{_checked(name)}: {value}\r\n" for name, value in headers])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers) or "\0" in lines:
        raise ValueError("a header's value must not hold CR, LF or NUL")
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{target.start}{lines}{length}\r\n".encode(), body or b""


@lru_cache(maxsize=1024)
def _checked(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("a header's name must be a token")
    if name.lower() in _OURS:
        raise ValueError(f"the header {name} is the client's own")
    return name
