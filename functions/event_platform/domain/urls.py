"""URLs that strangers give us: PIM URLs as names of tenants, and endpoints to connect to."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

MAX_URL_LENGTH = 2048
_EXPECTED = f"must be a URL of at most {MAX_URL_LENGTH} printable ASCII characters"
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e]+")
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?", re.IGNORECASE)
"""Host and port. URL parsers disagree on anything else, such as `a[::1]b` or `[v1.example]`."""
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):(\d{1,5})", re.ASCII)
MAX_PORT = 65535
_NO_PORT = f"must have a port from 1 to {MAX_PORT}"
_NO_HOST_NAME = "must name a host that can be looked up; a name in other letters than ASCII follows IDNA"
DEFAULT_PORTS = {"https": 443, "http": 80}
BAD_PORTS = frozenset(
    (
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102),
        *(103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465),
        *(512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993),
        *(995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668),
        *(6669, 6679, 6697, 10080),
    )
)
"""Ports of protocols that an HTTP request could be made to speak (https://fetch.spec.whatwg.org/#bad-port)."""


def normalise_pim_url(text: str, *, allow_http: bool) -> str:
    """A PIM's base URL as its tenant is named: no trailing slash, no default port, host in lower case.

    Raises ValueError, saying what is expected, when it is no base URL.
    """
    parts = _split(text, allow_http=allow_http)
    if parts.query or parts.fragment:
        raise ValueError("must be the PIM's base URL, without query or fragment")
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{_bracketed(_host(parts))}{port}{parts.path.rstrip('/')}"


def normalise_endpoint_url(text: str, *, allow_http: bool) -> str:
    """The URL of an endpoint as it is kept: as given, but for a host in other letters than ASCII's.

    That becomes the name that is looked up, so that what is checked is what is connected to (UTS 46).
    Raises ValueError as `check_endpoint_url` does.
    """
    _check_length(text)  # first: Unicode's normalisation takes time that grows with the square of the length
    url = text if text.isascii() else _with_ascii_host(text)
    check_endpoint_url(url, allow_http=allow_http)
    return url


def check_endpoint_url(text: str, *, allow_http: bool) -> None:
    """Raises ValueError, saying what is expected, when this can't be the URL of an endpoint."""
    parts = _split(text, allow_http=allow_http)
    if parts.fragment:
        raise ValueError("must have no fragment")
    if parts.port in BAD_PORTS:
        raise ValueError(f"must not use port {parts.port}, which belongs to another protocol")


def host_and_port(url: str) -> tuple[str, int]:
    """Host (lower case, no brackets) and port of a URL that passed one of the checks above."""
    return origin_of(url)[1:]


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host (lower case, no brackets) and port of a URL that passed one of the checks above."""
    parts = urlsplit(url)
    return parts.scheme, _host(parts), parts.port or DEFAULT_PORTS[parts.scheme]


@lru_cache(maxsize=10_000)
def host_of(url: str) -> str:
    """The host of such a URL; remembered, as it is asked for with every delivery."""
    return host_and_port(url)[0]


def host_and_port_of_broker(broker: str) -> tuple[str, int]:
    """Host (lower case, no brackets) and port of `host:port`. Raises ValueError when it is not that."""
    match = _BROKER.fullmatch(broker)
    if match is None or not 1 <= int(match[2]) <= MAX_PORT:
        raise ValueError("must be host:port")
    return match[1].strip("[]").lower(), int(match[2])


def _with_ascii_host(text: str) -> str:
    """Returns the text with its host in ASCII; other characters are left for the check that follows."""
    import idna  # its tables take time to load, and few hosts need them

    if not text.isprintable():  # urlsplit drops tabs and line ends
        return text
    try:
        parts = urlsplit(text)
        user, at, authority = parts.netloc.rpartition("@")
        host, colon, port = authority.partition(":")
        ascii_host = "" if not host else idna.encode(host, uts46=True, std3_rules=True).decode()
    except ValueError as error:  # also idna's own
        raise ValueError(_NO_HOST_NAME) from error
    return parts._replace(netloc=f"{user}{at}{ascii_host}{colon}{port}").geturl()


def _check_length(text: str) -> None:
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(_EXPECTED)


def _split(text: str, *, allow_http: bool) -> SplitResult:
    _check_length(text)
    if _PRINTABLE_ASCII.fullmatch(text) is None or "\\" in text:
        raise ValueError(_EXPECTED)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError("must be a URL; an IPv6 address in it is written as [2001:db8::1]") from error
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(_NO_PORT) from error
    schemes = ("https", "http") if allow_http else ("https",)
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname:
        raise ValueError("must name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password")
    if _AUTHORITY.fullmatch(parts.netloc) is None:
        raise ValueError("must name a host of letters, digits, hyphens and dots, or an IP address")
    if port == 0:
        raise ValueError(_NO_PORT)
    return parts


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").lower()


def _bracketed(host: str) -> str:
    try:
        is_ipv6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_ipv6 = False
    return f"[{host}]" if is_ipv6 else host
