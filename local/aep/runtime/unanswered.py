"""Describes why a call of a command got no answer, or a refusal."""

import os
import ssl

import orjson

QUOTED_CHARACTERS = 300


def why(error: Exception) -> str:
    """Describes an error of aiohttp or of a socket for operators."""
    import aiohttp  # takes 0.2 s, and most commands call nobody

    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match cause:
        case TimeoutError():
            return "nothing came in time"
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            return "the certificate is not trusted"
        case ssl.SSLError() | aiohttp.ClientConnectorSSLError():
            return "TLS failed"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed"
        case aiohttp.InvalidURL():
            return "that is no URL"
        case OSError() if cause.errno is not None and cause.errno > 0:
            return os.strerror(cause.errno).lower()
        case OSError():
            return "no connection; look at the name and the network"
        case _:
            return "what came is no answer of this platform"


def refusal(text: str) -> str:
    """Returns the messages of an answer of the platform, or the beginning of another answer."""
    try:
        return "; ".join(each["message"] for each in orjson.loads(text)["errors"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return text[:QUOTED_CHARACTERS]
