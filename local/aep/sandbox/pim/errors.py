"""The answers by which a PIM refuses a request.

PimError        Raised when the REST API refuses, with the status and message that Akeneo's PIM answers.
OAuthError      Raised when an App asks for a token wrongly (RFC 6749, 5.2).
"""

from collections.abc import Mapping


class PimError(Exception):
    """Raised when the PIM refuses a request, with the status and message that Akeneo's PIM answers."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers


class OAuthError(Exception):
    """Raised when an App asks for a code or a token wrongly; `error` is a code of RFC 6749, 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
