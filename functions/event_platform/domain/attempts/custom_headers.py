"""The rules for the headers that a subscription adds to its deliveries (contract/wire.md 8).

A pattern holds for the whole text.
"""

from typing import NamedTuple

from .delivery_headers import DELIVERY_HEADERS

MAX_HEADERS = 5
NAME = r"^[A-Za-z0-9-]{1,128}$"
MAX_VALUE_LENGTH = 256
VALUE = r"^[ -~]*$"


class RefusedHeaders(NamedTuple):
    """Names that a custom header may not have, as they are written; `prefix` begins further ones."""

    names: tuple[str, ...]
    prefix: str
    of_http: tuple[str, ...]

    def refuses(self, name: str) -> bool:
        """True if the name, compared without case, is one of them."""
        return name.lower() in _LOWER_CASE or name.lower().startswith(self.prefix.lower())


_SIGNATURES = "X-AKENEO-SIGNATURE-"

REFUSED = RefusedHeaders(
    (
        *(header.name for header in DELIVERY_HEADERS if not header.name.startswith(_SIGNATURES)),
        "Host",
        "Authorization",
        "Cookie",
    ),
    _SIGNATURES,
    # The hop-by-hop and framing headers of HTTP (RFC 9110 7.6.1 and 10.1.1, RFC 9112 6).
    (
        "Connection",
        "Proxy-Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
        "Expect",
        "HTTP2-Settings",
        "Proxy-Authenticate",
        "Proxy-Authorization",
    ),
)
_LOWER_CASE = frozenset(name.lower() for name in (*REFUSED.names, *REFUSED.of_http))
