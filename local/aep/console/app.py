"""The console as an ASGI app: who may see it, and the headers and errors of its answers.

Pages are in modules of their own; each has a function that returns its routes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from event_platform import __version__
from event_platform.domain import errors
from event_platform.domain.front_door import FrontDoor, site_of
from event_platform.domain.line_limit import LineLimit
from event_platform.domain.tenants import UnusableList
from event_platform.http import STATUS_OF
from event_platform.ports import Clock

from ..serving.samples import Samples
from ..store import ended_sessions
from ..wiring import Parts
from . import documentation, entry, pages
from .address import is_loopback
from .answers import completed, read_form, static_response
from .entry import Links, Session, Sessions
from .records import Records
from .streams import Streams

log = structlog.get_logger()

LINK_FORM_BYTES = 4 * 1024
"""The bytes of the form that anybody may send."""
COOKIE = "aep_console"
ENTER, LEAVE = "/console/enter", "/console/leave"
FAULT = "an internal error; it was logged, and nothing was changed"


@dataclass(frozen=True, slots=True)
class Place:
    """The URL at which the console is reached, without a slash at its end, and the name of its cookie."""

    url: str
    name: str = COOKIE

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https:")

    @property
    def cookie(self) -> str:
        """The whole name of the cookie; a browser takes one with __Host- over TLS only."""
        return f"__Host-{self.name}" if self.is_https else self.name

    def answers_to(self, header: str) -> bool:
        """True for a Host of this place, or of loopback: other names may lead here by DNS rebinding."""
        try:
            host = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return host == urlsplit(self.url).hostname or is_loopback(host)


MENU: Mapping[str, str] = {
    "/console": "Overview",
    "/console/subscriptions": "Subscriptions",
    "/console/events": "Events",
    "/console/pims": "PIMs",
    "/console/dead": "Dead letters",
    "/console/log": "Log",
    "/console/health": "Health",
    "/console/try": "Try",
}


class Shell:
    """The parts that the pages of every console share: templates, the way in, and streams of live pages.

    `menu` names the pages by their paths. `project` is that of Google Cloud, None on one machine. `ended` are
    the sessions that were ended in another process.
    """

    def __init__(
        self,
        clock: Clock,
        place: Place,
        secret: bytes,
        *,
        menu: Mapping[str, str] = MENU,
        project: str | None = None,
        ended: Iterable[str] = (),
    ) -> None:
        self.clock = clock
        self.place = place
        self.static = pages.static_files()
        self.templates = pages.Templates(self.static)
        self.streams = Streams(clock)
        self.links = Links(clock.monotonic)
        self.sessions = Sessions(secret, clock, ended)
        self._of_all: Mapping[str, Any] = {
            "version": __version__,
            "menu": menu,
            "home": "/console",
            "leave": LEAVE,
            "help": documentation.PATH,
            "user": "",
            "project": project,
        }

    def render(self, request: Request, template: str, **context: object) -> str:
        """Returns a page, or a part of one, for the session of a request."""
        session: Session | None = request.scope.get("session")
        return self.templates.render(
            template,
            {
                **self._of_all,
                "now": self.clock.now(),
                "path": request.url.path,
                "session": session,
                "csrf": "" if session is None else self.sessions.form_token(session),
                **context,
            },
        )

    async def end(self, session: Session) -> None:
        """Ends a session before its time. Raises StoreUnavailable."""
        self.sessions.end(session)

    async def stop(self) -> None:
        """Ends the streams, and frees what is kept for pages."""
        await self.streams.stop()

    def page(self, request: Request, template: str, status: int = 200, **context: object) -> Response:
        text = self.render(request, template, **context)
        return Response(text, status, media_type="text/html")


AnyShell = TypeVar("AnyShell", bound=Shell)


class Site(Shell):
    """The parts that the pages share on one machine: records and numbers, too."""

    def __init__(
        self, parts: Parts, samples: Samples, place: Place, secret: bytes, ended: Iterable[str]
    ) -> None:
        super().__init__(parts.clock, place, secret, ended=ended)
        self.parts = parts
        self.samples = samples
        self.records = Records(parts)

    async def end(self, session: Session) -> None:
        """Ends a session in the file, too, so that a restart brings it back to nobody."""
        await self.records.end_session(session.id, ended_sessions.OPERATOR, session.until)
        await super().end(session)

    async def stop(self) -> None:
        await super().stop()
        await self.records.rankings.close()


class Console(Generic[AnyShell]):
    """The console behind its checks. `site` is what its pages share."""

    def __init__(self, site: AnyShell, routes: Sequence[Route]) -> None:
        self.site = site
        self._door = FrontDoor(site.clock.monotonic)
        self._lines = LineLimit(site.clock.monotonic)
        own = [
            Route("/", _to_overview, methods=["GET"]),
            Route(f"{pages.STATIC}/{{digest}}/{{name}}", self._static, methods=["GET"]),
            Route(ENTER, self._enter, methods=["GET", "POST"]),
            Route(LEAVE, self._leave, methods=["POST"]),
        ]
        self._router = Router([*own, *documentation.routes(site), *routes], redirect_slashes=False)

    def link(self) -> str:
        """Returns a new one-time link."""
        return f"{self.site.place.url}{ENTER}?token={self.site.links.issue()}"

    async def stop(self) -> None:
        """Ends the streams, which else would hold up the end of the server."""
        await self.site.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        scope["app"] = self  # so the router raises what has no route
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        complete = completed(noting, is_https=self.site.place.is_https)
        request = Request(scope, receive, complete)
        try:
            await self._admit(request)
            await self._router.app(scope, receive, complete)
        except (errors.EventPlatformError, UnusableList, HTTPException, ClientDisconnect) as error:
            if started:
                raise
            await self._error_page(request, error)(scope, receive, complete)
        except Exception:
            if not started:
                await self._page_of_error(request, 500, FAULT)(scope, receive, complete)
            raise

    async def _admit(self, request: Request) -> None:
        """Notes the session of a request, and checks that a change comes from a form of that session.

        Raises HTTPException, TooManyRequests, Unauthenticated.
        """
        if not self.site.place.answers_to(request.headers.get("host", "")):
            raise HTTPException(421, f"the console answers at {self.site.place.url} only")
        path = request.url.path
        if path == "/" or path.startswith(f"{pages.STATIC}/"):
            return
        session = self._session_of(request)
        request.scope["session"] = session
        if path == ENTER:
            return
        if session is None:
            raise errors.Unauthenticated("")
        if request.method == "POST":
            form = await read_form(request)
            if not self.site.sessions.is_form_token(session, form.get("csrf", "")):
                raise errors.Forbidden("the form is of another session, or of none: load the page again")

    def _session_of(self, request: Request) -> Session | None:
        """Raises TooManyRequests if too many wrong cookies come from an address."""
        cookie = request.cookies.get(self.site.place.cookie, "")
        session = self.site.sessions.of_cookie(cookie)
        if cookie and session is None:
            self._door.count_wrong(_address(request), cookie)
        return session

    async def _enter(self, request: Request) -> Response:
        """Answers a one-time link: a GET shows one button, and only its POST uses the link up."""
        if request.method != "POST":
            token = request.query_params.get("token", "")
            return self.site.page(request, "enter.html", token=token[: entry.TOKEN_CHARACTERS])
        token = (await read_form(request, LINK_FORM_BYTES)).get("token", "")
        if not self.site.links.use(token):
            self._door.count_wrong(_address(request), token)
            if times := self._lines.count("console.link_refused"):
                log.warning("console.link_refused", times=times)
            raise errors.Unauthenticated("this link was used already, or is older than 10 minutes")
        _, cookie = self.site.sessions.begin()
        log.info("console.entered")
        response = RedirectResponse("/console", 303)
        response.set_cookie(
            self.site.place.cookie,
            cookie,
            max_age=entry.SESSION_SECONDS,
            secure=self.site.place.is_https,
            httponly=True,
            samesite="strict",
        )
        return response

    async def _leave(self, request: Request) -> Response:
        await self.site.end(request.scope["session"])
        response = RedirectResponse(ENTER, 303)
        response.delete_cookie(self.site.place.cookie, secure=self.site.place.is_https, httponly=True)
        return response

    async def _static(self, request: Request) -> Response:
        return static_response(request, self.site.static)

    def _error_page(self, request: Request, error: BaseException) -> Response:
        if isinstance(error, errors.Unauthenticated):
            return self.site.page(request, "outside.html", 401, message=str(error))
        if isinstance(error, errors.EventPlatformError):
            headers = {}
            if isinstance(error, errors.TooManyRequests | errors.Overloaded):
                headers["Retry-After"] = str(error.retry_after)
            answer = self._page_of_error(request, STATUS_OF[type(error)], str(error))
            answer.headers.update(headers)
            return answer
        if isinstance(error, HTTPException):
            message = "there is no such page" if error.status_code == 404 else error.detail
            return self._page_of_error(request, error.status_code, message)
        return self._page_of_error(request, 400, str(error) or "the form did not arrive")

    def _page_of_error(self, request: Request, status: int, message: str) -> Response:
        return self.site.page(request, "error.html", status, message=message)


async def _to_overview(request: Request) -> Response:
    return RedirectResponse("/console", 307)


def _address(request: Request) -> str:
    return site_of(request.client.host if request.client else "")
