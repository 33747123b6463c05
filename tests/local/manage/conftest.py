"""A management API for the tests of a module, and clients of it (`support.management`)."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256

import aiohttp
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

from aep.broker.replays import SqliteReplays
from aep.sandbox.pim.app import create_app
from aep.serving import server
from aep.store.ends import SqliteFailedAttempts
from aep.store.kept_search import SqliteKeptEvents
from aep.store.logs import SqliteLogs
from event_platform import manage
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway, HttpsSender
from event_platform.domain.tenants import Tenant
from event_platform.http import App
from event_platform.manage.identity import CallerVerifier
from support.embedded import Embedded
from support.management import ERP, SHOP, STRICT_KEY, Client, Labels, ManageApi, Registry, client_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ManageApi]:
    registry, labels = Registry(), Labels()
    embedded = await Embedded(tmp_path_factory.mktemp("manage-api")).open()
    clock, database, store, queue = embedded.clock, embedded.database, embedded.subscriptions, embedded.queue
    guards = {True: GuardedNetwork(allow_loopback=True), False: GuardedNetwork()}
    gateway = HttpsPimGateway(guards[True], TrustedNetwork())
    sender = HttpsSender(guards[True])

    def app(*, allow_http: bool) -> App:
        verifier = CallerVerifier(registry, gateway, clock, allow_http=allow_http)
        parts = manage.Manage(
            verifier=verifier,
            subscriptions=store,
            logs=SqliteLogs(database),
            guard=guards[allow_http],
            clock=clock,
            intake=queue,
            sender=sender,
            allow_http=allow_http,
            topic_labels=labels,
            retries=queue,
            kept=SqliteKeptEvents(database, keeps=True),
            failures=SqliteFailedAttempts(database),
            replays=SqliteReplays(database, store, queue, keeps=True),
        )
        return App(manage.routes(parts))

    pim = create_app([ERP, SHOP], clock.now)
    async with AsyncExitStack() as stack:
        pims = Starlette(routes=[Mount("/{name}", app=pim)])
        pims_url = await stack.enter_async_context(server.running(pims))
        url = await stack.enter_async_context(server.running(app(allow_http=True)))
        strict_url = await stack.enter_async_context(server.running(app(allow_http=False)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield ManageApi(
            session,
            clock,
            store,
            database,
            registry,
            f"{url}/api/v1",
            f"{strict_url}/api/v1",
            pims_url,
            pim.state.pim.connections,
            labels,
        )
    await gateway.close()
    await sender.close()
    await embedded.close()


_numbers = itertools.count(1)


@pytest.fixture
def pim(world: ManageApi) -> str:
    """The URL of a PIM that no other test has."""
    url = f"{world.pims_url}/pim-{next(_numbers)}"
    world.registry.entries.append(Tenant(url=url))
    return url


@pytest.fixture
def client(world: ManageApi, pim: str) -> Client:
    return client_of(world, pim, ERP)


@pytest.fixture
def other(world: ManageApi, pim: str) -> Client:
    """Another client of the same PIM."""
    return client_of(world, pim, SHOP)


@pytest.fixture
def strict(world: ManageApi) -> Client:
    """A client of a platform that takes https and public addresses only."""
    name = f"pim-{next(_numbers)}.example.com"
    digest = sha256(STRICT_KEY.encode()).hexdigest()
    world.registry.entries.append(
        Tenant.model_validate(
            {
                "url": f"https://{name}",
                "auth": "platform-key",
                "clients": [{"client_id": "erp", "key_sha256": digest}],
            }
        )
    )
    return Client(world, world.strict_url, f"https://{name}", STRICT_KEY, "erp")
