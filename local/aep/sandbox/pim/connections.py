"""The clients of the simulated PIM, the tokens that they got, and the scopes of each token.

A connection gets tokens by a user's password (contract/wire.md 1). An App gets one by an authorization code,
as Akeneo documents it: https://api.akeneo.com/apps/authentication-and-authorization.html
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from .errors import OAuthError, PimError
from .scopes import READS, readable

TOKEN_LIFE = timedelta(seconds=3600)
REFRESH_LIFE = timedelta(days=14)
CODE_LIFE = timedelta(seconds=30)
"""The time that an App has to exchange its code for a token."""
MOST_GRANTS = 10_000
"""The most tokens and codes that are remembered; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Client:
    """A connection of the PIM and the user that its tokens are made for, or an App with its callback URL."""

    client_id: str
    secret: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    event_platform: bool = True  # the connection's permission
    callback_url: str | None = None
    scopes: frozenset[str] = READS
    """The reads that the user of the connection, or who connects the App, may grant."""


DEFAULT_CLIENT = Client("demo-client", "demo-secret", "demo-user", "demo-password")


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request, and what its token may read."""

    client: Client
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Grant:
    client_id: str
    expires_at: datetime | None  # an App's access token has no end
    scopes: frozenset[str] | None = None  # None: all that the client has when it is used

    def has_ended(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class Connections:
    """The PIM's clients, and the tokens and codes that it gave out."""

    def __init__(
        self, clients: Iterable[Client], now: Callable[[], datetime], reads: frozenset[str] = READS
    ) -> None:
        """`reads` are the scopes that the edition has."""
        self.clients = {client.client_id: client for client in clients}
        self._now = now
        self._reads = reads
        self._access: dict[str, _Grant] = {}
        self._refresh: dict[str, _Grant] = {}
        self._codes: dict[str, _Grant] = {}

    def authenticate(self, authorization: str) -> Client:
        """Returns the client of an HTTP Basic header."""
        client_id, secret = _basic_credentials(authorization)
        client = self.clients.get(client_id)
        if client is None or not _same(secret, client.secret):
            raise PimError(
                422, 'Parameter "client_id" is missing or does not match any client, or secret is invalid'
            )
        return client

    def grant(self, client: Client, form: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a token request of a connection (contract/wire.md 1)."""
        match form.get("grant_type"):
            case "password":
                _check_password(client, form.get("username"), form.get("password"))
            case "refresh_token":
                self._use_refresh_token(client, form.get("refresh_token"))
            case _:
                raise PimError(
                    422, 'Parameter "grant_type", "username" or "password" is missing, empty or invalid'
                )
        now = self._now()
        refresh = secrets.token_urlsafe(32)
        _remember(self._refresh, refresh, _Grant(client.client_id, now + REFRESH_LIFE))
        return {
            "access_token": self._new_access(_Grant(client.client_id, now + TOKEN_LIFE)),
            "expires_in": int(TOKEN_LIFE.total_seconds()),
            "token_type": "bearer",
            "scope": None,
            "refresh_token": refresh,
        }

    def authorize(self, query: Mapping[str, str]) -> str:
        """Returns the callback URL with code and state, to which an App's user is sent when all was granted.

        Nobody is asked. A scope that is unknown, or that the edition has nothing for, is left out.
        """
        client = self.clients.get(query.get("client_id", ""))
        if client is None:
            raise OAuthError("invalid_client", "client_id: give the client id that `aep sim` printed")
        if client.callback_url is None:
            raise OAuthError(
                "invalid_request", "this App has no callback URL: start `aep sim` with --callback-url"
            )
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "response_type must be code")
        scopes = readable(query.get("scope", "").split()) & client.scopes & self._reads
        code = secrets.token_urlsafe(32)
        _remember(self._codes, code, _Grant(client.client_id, self._now() + CODE_LIFE, scopes))
        answer = {"code": code} | ({"state": query["state"]} if "state" in query else {})
        separator = "&" if "?" in client.callback_url else "?"
        return f"{client.callback_url}{separator}{urlencode(answer)}"

    def exchange(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to an App's token request; its code is good for one."""
        if form.get("grant_type") != "authorization_code":
            raise OAuthError("unsupported_grant_type", "grant_type must be authorization_code")
        for name in ("client_id", "code", "code_identifier", "code_challenge"):
            if not isinstance(form.get(name), str) or not form[name]:
                raise OAuthError("invalid_request", f"{name} is missing")
        client = self.clients.get(form["client_id"])
        if client is None:
            raise OAuthError("invalid_client", "client_id is not known")
        expected = hashlib.sha256((form["code_identifier"] + client.secret).encode()).hexdigest()
        if not _same(form["code_challenge"], expected):
            raise OAuthError(
                "invalid_client", "code_challenge must be the SHA-256 of code_identifier and client secret"
            )
        code = self._codes.pop(form["code"], None)
        if code is None or code.client_id != client.client_id:
            raise OAuthError("invalid_grant", "Code is not valid")
        if code.has_ended(self._now()):
            raise OAuthError("invalid_grant", "Code has expired")
        scopes = code.scopes or frozenset()
        access = self._new_access(_Grant(client.client_id, None, scopes))
        return {"access_token": access, "token_type": "bearer", "scope": " ".join(sorted(scopes))}

    def caller(self, authorization: str) -> Caller:
        """Returns the client whose access token a Bearer header has, and what it may read."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise PimError(401, "Authentication is required")
        grant = self._access.get(token.strip())
        if grant is None or grant.client_id not in self.clients:
            raise PimError(401, "The access token provided is invalid.")
        if grant.has_ended(self._now()):
            raise PimError(401, "The access token provided has expired.")
        client = self.clients[grant.client_id]
        return Caller(client, client.scopes if grant.scopes is None else grant.scopes & client.scopes)

    def permit(
        self,
        client_id: str,
        *,
        event_platform: bool | None = None,
        scopes: frozenset[str] | None = None,
    ) -> Client:
        """Changes what a client may do: use the event platform, and read. None leaves it as it is."""
        client = self.clients.get(client_id)
        if client is None:
            raise PimError(404, f'Client "{client_id}" does not exist.')
        changed = replace(
            client,
            event_platform=client.event_platform if event_platform is None else event_platform,
            scopes=client.scopes if scopes is None else scopes,
        )
        self.clients[client_id] = changed
        return changed

    def _use_refresh_token(self, client: Client, token: object) -> None:
        grant = self._refresh.get(token) if isinstance(token, str) else None
        if grant is None or grant.client_id != client.client_id or grant.has_ended(self._now()):
            raise PimError(422, "Refresh token is invalid or has expired")
        del self._refresh[str(token)]  # good for one use; the access tokens before it stay good

    def _new_access(self, grant: _Grant) -> str:
        access = secrets.token_urlsafe(32)
        _remember(self._access, access, grant)
        return access


def _remember(grants: dict[str, _Grant], name: str, grant: _Grant) -> None:
    if len(grants) >= MOST_GRANTS:
        del grants[next(iter(grants))]
    grants[name] = grant


def _check_password(client: Client, username: object, password: object) -> None:
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        raise PimError(422, 'Parameter "grant_type", "username" or "password" is missing, empty or invalid')
    if not (_same(username, client.username) & _same(password, client.password)):
        raise PimError(422, "No user found for the given username and password")


def _basic_credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, secret


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
