"""The console of who develops an app, on the public port: it is a client of the management API.

What is typed to sign in are the three headers of the API. They are kept in the session's cookie alone,
sealed, and each page calls the API with them, in this process. So its checks and limits are those of the API.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from event_platform import __version__
from event_platform.domain import errors
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.kept_events import CourseStatus
from event_platform.domain.record.logs import ACTIONS, ERRORS, LogType
from event_platform.domain.urls import normalise_pim_url
from event_platform.http import STATUS_OF
from event_platform.manage.identity import HEADERS

from ..wiring import Parts
from . import pages
from .address import APPS
from .answers import completed, read_form, static_response
from .records import Records

PREFIX = APPS
MENU: Mapping[str, str] = {
    PREFIX: "Subscriptions",
    f"{PREFIX}/events": "Events",
    f"{PREFIX}/log": "Log",
}
COOKIE = "aep_app"
CONTEXT = "aep console of apps"
PURPOSE = "aep console of apps"
"""The context in which cookies are sealed, and the name of the key that makes the tokens of forms."""
SECONDS = 12 * 3600
FORM_BYTES = 8 * 1024
"""The bytes of a form, which anybody may send."""
TRIPLE_BYTES = 2_500
"""The bytes of what is typed to sign in: a browser keeps cookies of 4 KB."""
TEXT_CHARACTERS = 512
LOG_FIELDS = ("log_type", "operation", "error_reason", "subscription_id", "from", "to")
EVENT_FIELDS = ("id", "entity", "type", "outcome", "subscription_id", "from", "to")
"""The fields of the forms that narrow the lists, which are the API's own parameters, but for the id."""
MESSAGES = {401: "These credentials are not taken any more: sign in again."}


class Refused(Exception):
    """Raised when the API has not answered 2xx: its status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Session:
    """A session: its headers of the API, and until when its cookie is good (unix seconds)."""

    id: str
    until: float
    triple: Mapping[str, str]

    @property
    def user(self) -> str:
        return f"{self.triple['X-PIM-CLIENT-ID']} of {self.tenant}"

    @property
    def tenant(self) -> str:
        return normalise_pim_url(self.triple["X-PIM-URL"], allow_http=True)


class AppConsole:
    """The pages below PREFIX, for the platform's own app, whose API they call."""

    def __init__(self, platform: ASGIApp, parts: Parts) -> None:
        self._platform = platform
        self._parts = parts
        self._records = Records(parts)
        self._key = parts.seal.derived_key(PURPOSE)
        self._static = pages.static_files()
        self._templates = pages.Templates(self._static, f"{PREFIX}/static")
        self._router = Router(
            [
                Route(PREFIX, self._overview, methods=["GET"]),
                Route(f"{PREFIX}/static/{{digest}}/{{name}}", self._file, methods=["GET"]),
                Route(f"{PREFIX}/enter", self._enter, methods=["POST"]),
                Route(f"{PREFIX}/leave", self._leave, methods=["POST"]),
                Route(f"{PREFIX}/log", self._log, methods=["GET"]),
                Route(f"{PREFIX}/events", self._events, methods=["GET"]),
                Route(f"{PREFIX}/events/one", self._event, methods=["GET"]),
                Route(f"{PREFIX}/{{sid}}/{{id}}", self._subscription, methods=["GET"]),
                Route(f"{PREFIX}/{{sid}}/{{id}}/test", self._test, methods=["POST"]),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        scope["app"] = self
        request = Request(scope, receive)
        complete = completed(send, is_https=self._is_https(request))
        scope["session"] = None
        try:
            if not path.startswith(f"{PREFIX}/static/"):
                scope["session"] = await self._session_of(request)
            await self._router.app(scope, receive, complete)
        except (errors.EventPlatformError, Refused, HTTPException, ClientDisconnect) as error:
            await self._error(request, error)(scope, receive, complete)

    async def _overview(self, request: Request) -> Response:
        if request.scope["session"] is None:
            return self._page(request, "app_enter.html", problem="", fields={})
        triple = self._signed_in(request).triple
        subscribers = await self._call(request, triple, "GET", "/subscribers")
        rows = [
            (each, await self._call(request, triple, "GET", f"/subscribers/{each['id']}/subscriptions"))
            for each in subscribers
        ]
        return self._page(request, "app_overview.html", rows=rows)

    async def _enter(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise errors.Forbidden("this form is of another site")
        fields = await read_form(request, FORM_BYTES)
        triple = {name: fields.get(name, "").strip() for name in HEADERS}
        if len(orjson.dumps(triple)) > TRIPLE_BYTES:
            raise errors.TooLarge("these credentials do not fit into a cookie: call the API with them")
        try:
            await self._call(request, triple, "GET", "/subscribers")
        except Refused as error:
            kept = {**fields, "X-PIM-TOKEN": ""}
            return self._page(request, "app_enter.html", error.status, problem=str(error), fields=kept)
        response = RedirectResponse(PREFIX, 303)
        response.set_cookie(
            self._cookie(request),
            self._parts.seal.seal(self._new_session(triple), context=CONTEXT),
            max_age=SECONDS,
            secure=self._is_https(request),
            httponly=True,
            samesite="strict",
        )
        return response

    async def _leave(self, request: Request) -> Response:
        await self._check_form(request)
        session = self._signed_in(request)
        await self._records.end_session(session.id, session.tenant, session.until)
        response = RedirectResponse(PREFIX, 303)
        response.delete_cookie(self._cookie(request), secure=self._is_https(request), httponly=True)
        return response

    async def _log(self, request: Request) -> Response:
        fields, query = _asked(request, LOG_FIELDS)
        page, problem = await self._list(request, f"/logs?{query}")
        return self._page(
            request,
            "app_log.html",
            400 if problem else 200,
            log=page,
            problem=problem,
            fields=fields,
            types=list(LogType),
            operations=sorted(ACTIONS | ERRORS),
            reasons=sorted(Reason),
            more=_more(request, fields, page),
        )

    async def _events(self, request: Request) -> Response:
        fields, query = _asked(request, EVENT_FIELDS)
        if fields.get("id"):
            return RedirectResponse(f"{PREFIX}/events/one?{urlencode({'id': fields['id']})}", 303)
        page, problem = await self._list(request, f"/events?{query}")
        return self._page(
            request,
            "app_events.html",
            400 if problem else 200,
            page=page,
            problem=problem,
            fields=fields,
            types=sorted(self._parts.manage.catalog.types),
            outcomes=list(CourseStatus),
            more=_more(request, fields, page),
        )

    async def _list(self, request: Request, path: str) -> tuple[Mapping[str, Any], str]:
        """Returns a page of a list, and what the API says is wrong with its filters. Raises Refused."""
        try:
            return await self._call(request, self._signed_in(request).triple, "GET", path), ""
        except Refused as error:
            if error.status not in (400, 409):
                raise
            return {}, str(error)

    async def _event(self, request: Request) -> Response:
        event_id = quote(request.query_params.get("id", ""), safe="")
        triple = self._signed_in(request).triple
        found = await self._call(request, triple, "GET", f"/events/{event_id}")
        return self._page(request, "app_event.html", items=found["items"])

    async def _subscription(self, request: Request) -> Response:
        return await self._one(request, self._signed_in(request).triple, None)

    async def _test(self, request: Request) -> Response:
        await self._check_form(request)
        triple = self._signed_in(request).triple
        chosen = (await read_form(request, FORM_BYTES)).get("type", "")
        body = {"type": chosen} if chosen else {}
        result = await self._call(request, triple, "POST", f"{_path_of(request)}/test", body)
        return await self._one(request, triple, result)

    async def _one(self, request: Request, triple: Mapping[str, str], result: Any) -> Response:
        found = await self._call(request, triple, "GET", _path_of(request))
        query = urlencode({"subscription_id": found["id"], "limit": 20})
        log = await self._call(request, triple, "GET", f"/logs?{query}")
        config = orjson.dumps(found["config"], option=orjson.OPT_INDENT_2).decode()
        return self._page(
            request,
            "app_subscription.html",
            found=found,
            config=config,
            log=log,
            result=result,
            types=[each for each in found["events"] if each in self._parts.manage.catalog],
        )

    async def _file(self, request: Request) -> Response:
        return static_response(request, self._static)

    async def _call(
        self, request: Request, triple: Mapping[str, str], method: str, path: str, body: Any = None
    ) -> Any:
        """Returns the API's answer to a call with these headers from the reader's address. Raises Refused."""
        passed = ("host", "x-forwarded-for", "x-forwarded-proto")
        headers = [(name, value) for name, value in request.scope["headers"] if name.decode() in passed]
        # What no header can hold is refused as what it is: no credentials.
        headers += [
            (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in triple.items()
        ]
        sent_body = b"" if body is None else orjson.dumps(body)
        if sent_body:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(sent_body))]
        api_path, _, query = path.partition("?")
        scope: Scope = {
            **{name: request.scope[name] for name in ("asgi", "http_version", "scheme", "client", "server")},
            "type": "http",
            "method": method,
            "path": unquote(f"/api/v1{api_path}"),
            "raw_path": f"/api/v1{api_path}".encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "state": {},
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": sent_body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._platform(scope, receive, send)
        answer = orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))
        status: int = sent[0]["status"]
        if status >= 400:
            raise Refused(status, "; ".join(each["message"] for each in answer["errors"]))
        return answer

    def _page(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        session: _Session | None = request.scope["session"]
        text = self._templates.render(
            template,
            {
                "now": self._parts.clock.now(),
                "version": __version__,
                "path": request.url.path,
                "menu": MENU,
                "home": PREFIX,
                "leave": f"{PREFIX}/leave",
                "help": "",
                "session": session,
                "user": "" if session is None else session.user,
                "csrf": "" if session is None else self._form_token(request),
                **context,
            },
        )
        return Response(text, status, media_type="text/html")

    def _error(self, request: Request, error: Exception) -> Response:
        status = 400
        if isinstance(error, Refused):
            status = error.status
        elif isinstance(error, HTTPException):
            status = error.status_code
        elif isinstance(error, errors.EventPlatformError):
            status = STATUS_OF[type(error)]
        message = "there is no such page" if isinstance(error, HTTPException) else str(error)
        response = self._page(request, "error.html", status, message=MESSAGES.get(status, message))
        if status == 401:  # a token that was taken away
            response.delete_cookie(self._cookie(request), secure=self._is_https(request), httponly=True)
        return response

    def _new_session(self, triple: Mapping[str, str]) -> str:
        until = self._parts.clock.wall().timestamp() + SECONDS
        return orjson.dumps([dict(triple), until, secrets.token_urlsafe(18)]).decode()

    async def _session_of(self, request: Request) -> "_Session | None":
        """Returns the session of a request; None without one that is good."""
        cookie = request.cookies.get(self._cookie(request), "")
        try:
            triple, until, session_id = orjson.loads(self._parts.seal.open(cookie, context=CONTEXT))
        except ValueError:
            return None
        if until <= self._parts.clock.wall().timestamp() or await self._records.is_ended(session_id):
            return None
        return _Session(session_id, until, triple)

    def _signed_in(self, request: Request) -> "_Session":
        session: _Session | None = request.scope["session"]
        if session is None:
            raise Refused(401, "")
        return session

    def _form_token(self, request: Request) -> str:
        cookie = request.cookies.get(self._cookie(request), "")
        return hmac.new(self._key, cookie.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    async def _check_form(self, request: Request) -> None:
        """Raises Forbidden unless the form is of this session."""
        self._signed_in(request)
        token = (await read_form(request, FORM_BYTES)).get("csrf", "")
        if not hmac.compare_digest(self._form_token(request).encode(), token.encode("utf-8", "replace")):
            raise errors.Forbidden("the form is of another session: load the page again")

    def _is_https(self, request: Request) -> bool:
        scheme_of = getattr(self._platform, "scheme_of", None)
        return (scheme_of(request) if scheme_of else request.url.scheme) == "https"

    def _cookie(self, request: Request) -> str:
        return f"__Host-{COOKIE}" if self._is_https(request) else COOKIE


def _asked(request: Request, names: Sequence[str]) -> tuple[Mapping[str, str], str]:
    """Returns the fields of a list's form, and the query of the API that they and the cursor make."""
    given = request.query_params
    fields = {name: text for name in names if (text := given.get(name, "").strip()[:TEXT_CHARACTERS])}
    cursor = {"cursor": given["cursor"]} if given.get("cursor") else {}
    return fields, urlencode({**fields, **cursor})


def _more(request: Request, fields: Mapping[str, str], page: Mapping[str, Any]) -> str | None:
    """Returns the URL of the page that follows; None if this is the last one."""
    cursor = page.get("next_cursor")
    return None if cursor is None else f"{request.url.path}?{urlencode({**fields, 'cursor': cursor})}"


def _path_of(request: Request) -> str:
    sid, one = (quote(request.path_params[name], safe="") for name in ("sid", "id"))
    return f"/subscribers/{sid}/subscriptions/{one}"
