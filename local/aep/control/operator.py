"""The management API for the operator: over all clients, without a PIM to ask, and logged as the operator's.

A subscription is named by its id alone. Calls that name none say in X-PIM-URL and X-PIM-CLIENT-ID whose
records they are about.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Route

from event_platform.domain.call_limits import CallType
from event_platform.domain.errors import InvalidRequest, NotFound, Problem
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.subscriptions import Owner
from event_platform.domain.tenants import is_client_id
from event_platform.domain.urls import normalise_pim_url
from event_platform.manage import Manage
from event_platform.manage.identity import Caller
from event_platform.manage.json_bodies import redaction_of
from event_platform.manage.logs import call_of
from event_platform.manage.public_routes import PublicRoutes
from event_platform.manage.routes import ManagementApi
from event_platform.ports import SubscriptionLookup

OWNER_HEADERS = ("X-PIM-URL", "X-PIM-CLIENT-ID")


def routes(manage: Manage, subscriptions: SubscriptionLookup) -> Sequence[Route]:
    """Returns the routes of the management API as the operator has them."""
    return OperatorApi(manage, subscriptions).routes()


class OperatorApi(ManagementApi):
    """The same use cases as those of the management API, without its limits for callers."""

    def __init__(self, manage: Manage, subscriptions: SubscriptionLookup) -> None:
        super().__init__(manage, PublicRoutes(manage.catalog, manage.public_url))
        self._lookup = subscriptions

    def routes(self) -> Sequence[Route]:
        resource, one = self._resource, "/subscriptions/{id}"
        return [
            resource("/subscribers", GET=self.list_subscribers, POST=self.create_subscriber),
            resource(
                "/subscribers/{sid}",
                GET=self.get_subscriber,
                PATCH=self.change_subscriber,
                DELETE=self.remove_subscriber,
            ),
            resource(
                "/subscribers/{sid}/subscriptions", GET=self.list_subscriptions, POST=self.create_subscription
            ),
            resource(
                one,
                GET=self.get_subscription,
                PATCH=self.change_subscription,
                DELETE=self.remove_subscription,
            ),
            resource(f"{one}/suspend", POST=self.suspend),
            resource(f"{one}/resume", POST=self.resume),
            resource(f"{one}/retries", POST=self.retry_now),
            resource(f"{one}/replays", GET=self.list_replays, POST=self.start_replay),
            resource(f"{one}/replays/{{rid}}", GET=self.get_replay, DELETE=self.cancel_replay),
        ]

    async def _admit(self, request: Request, call_type: CallType) -> Caller:
        """Returns the owner of the record as the caller."""
        ids = request.path_params
        if "id" not in ids:
            return _owner_in(request)
        subscription = await self._lookup.current(ids["id"])
        if subscription is None:
            raise NotFound(f"no subscription {ids['id']}: `aep status` lists them")
        ids["sid"] = subscription.subscriber_id
        return Caller(subscription.owner, subscription.owner.tenant, may_subscribe=True)

    async def _record_refusal(self, caller: Caller, request: Request, error: InvalidRequest) -> None:
        """Writes nothing: it is no call of the client in whose log it would stand."""

    def _action(self, request: Request) -> Action:
        return Action(Actor.OPERATOR, call_of(request.method, request.url.path, redaction_of(request)))


def _owner_in(request: Request) -> Caller:
    url, client_id = (request.headers.get(name, "") for name in OWNER_HEADERS)
    problems = [
        Problem(name, "says whose records are meant")
        for name, value in zip(OWNER_HEADERS, (url, client_id), strict=True)
        if not value
    ]
    if problems:
        raise InvalidRequest(*problems)
    try:
        tenant = normalise_pim_url(url, allow_http=True)
    except ValueError as error:
        raise InvalidRequest(Problem("X-PIM-URL", str(error))) from error
    if not is_client_id(client_id):
        raise InvalidRequest(Problem("X-PIM-CLIENT-ID", "is no client id that a caller can have"))
    return Caller(Owner(tenant, client_id), url, may_subscribe=True)
