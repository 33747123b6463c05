"""The way into the console: one-time links, sessions, and the tokens of forms.

Decisions alone: nothing here knows of HTTP.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachetools import TTLCache
from itsdangerous import BadData, URLSafeSerializer

from event_platform.ports import Clock

LINK_SECONDS = 600
LINKS = 20
"""The links that may wait for their use; of more than that the oldest are dropped."""
SESSION_SECONDS = 12 * 3600
ENDED_REMEMBERED = 10_000
"""The sessions whose end is remembered, for as long as their cookies are good."""
TOKEN_CHARACTERS = 1024
"""The longest text that is looked at as a link, a session or the token of a form."""


class Links:
    """One-time links, as the digests of their tokens: what is in memory opens nothing."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._issued: TTLCache[str, None] = TTLCache(LINKS, LINK_SECONDS, monotonic)

    def issue(self) -> str:
        """Returns the token of a new link."""
        token = secrets.token_urlsafe(32)
        self._issued[_digest(token)] = None
        return token

    def use(self, token: str) -> bool:
        """True for the token of a link that is good and was not used; it is used up then."""
        digest = _digest(token)
        if digest not in self._issued:
            return False
        del self._issued[digest]
        return True


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a browser. `until` is in unix seconds."""

    id: str
    until: float


class Sessions:
    """Sessions in signed cookies, so that they go on when the platform restarts.

    `ended` are the ids of those that were ended before. `key` signs; it is never shown.
    """

    def __init__(self, key: bytes, clock: Clock, ended: Iterable[str] = ()) -> None:
        self._key = key
        self._clock = clock
        self._cookies = URLSafeSerializer(
            key, salt="aep console session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._ended: TTLCache[str, None] = TTLCache(ENDED_REMEMBERED, SESSION_SECONDS, clock.monotonic)
        self._ended.update(dict.fromkeys(ended))

    def begin(self) -> tuple[Session, str]:
        """Returns a new session, and the value of its cookie."""
        session = Session(secrets.token_urlsafe(18), self._clock.wall().timestamp() + SESSION_SECONDS)
        return session, self._cookies.dumps([session.id, session.until])

    def of_cookie(self, cookie: str) -> Session | None:
        """Returns the session of a cookie; None if it is over, was ended, or was never one of ours."""
        if not cookie.isascii() or len(cookie) > TOKEN_CHARACTERS:
            return None
        try:
            found = self._cookies.loads(cookie)
        except BadData:
            return None
        match found:
            case [str(session_id), int() | float() as until]:
                session = Session(session_id, float(until))
            case _:
                return None
        return session if self.is_good(session) else None

    def is_good(self, session: Session) -> bool:
        """True until the session is over or was ended."""
        return session.id not in self._ended and self.seconds_left(session) > 0

    def seconds_left(self, session: Session) -> float:
        return session.until - self._clock.wall().timestamp()

    def end(self, session: Session) -> None:
        """Ends a session before its time, in this process."""
        self._ended[session.id] = None

    def form_token(self, session: Session) -> str:
        """Returns the token that the session's forms carry, which no other site can know."""
        return hmac.new(self._key, f"aep console form {session.id}".encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, session: Session, token: str) -> bool:
        return len(token) <= TOKEN_CHARACTERS and hmac.compare_digest(
            self.form_token(session).encode(), token.encode()
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token[:TOKEN_CHARACTERS].encode("utf-8", "replace")).hexdigest()
