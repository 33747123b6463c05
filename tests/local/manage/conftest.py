"""A management API for the tests of a module, and clients of it (`support.management`)."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256

import aiohttp
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

from aep.broker.queue import DurableQueue
from aep.broker.replays import SqliteReplays
from aep.sandbox import sim
from aep.serving import server
from aep.store.database import Database
from aep.store.kept_search import SqliteKeptEvents
from aep.store.logs import SqliteLogs
from aep.store.subscriptions import SqliteSubscriptions
from event_platform import manage
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway, HttpsSender
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.tenants import Tenant
from event_platform.http import App
from event_platform.manage.identity import CallerVerifier
from support.clock import ManualClock
from support.management import ERP, SHOP, STRICT_KEY, Client, Labels, Registry, World, client_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    clock, registry, labels = ManualClock(), Registry(), Labels()
    database = Database(tmp_path_factory.mktemp("manage-api"))
    database.open()
    store = SqliteSubscriptions(database, AesGcmSeal(os.urandom(32)))
    guards = {True: GuardedNetwork(allow_loopback=True), False: GuardedNetwork()}
    gateway = HttpsPimGateway(guards[True], TrustedNetwork())
    sender = HttpsSender(guards[True])
    queue = DurableQueue(database, store, clock, schema_base="https://events.example.com/spec")
    await queue.open(lambda queued: None, lambda due_at: None)

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
            replays=SqliteReplays(database, store, queue, keeps=True),
        )
        return App(manage.routes(parts))

    pim = sim.create_app([ERP, SHOP], clock.now)
    async with AsyncExitStack() as stack:
        pims = Starlette(routes=[Mount("/{name}", app=pim)])
        pims_url = await stack.enter_async_context(server.running(pims))
        url = await stack.enter_async_context(server.running(app(allow_http=True)))
        strict_url = await stack.enter_async_context(server.running(app(allow_http=False)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(
            session,
            clock,
            store,
            registry,
            f"{url}/api/v1",
            f"{strict_url}/api/v1",
            pims_url,
            pim.state.pim,
            labels,
        )
    await gateway.close()
    await sender.close()
    await database.close()


_numbers = itertools.count(1)


@pytest.fixture
def pim(world: World) -> str:
    """The URL of a PIM that no other test has."""
    url = f"{world.pims_url}/pim-{next(_numbers)}"
    world.registry.entries.append(Tenant(url=url))
    return url


@pytest.fixture
def client(world: World, pim: str) -> Client:
    return client_of(world, pim, ERP)


@pytest.fixture
def other(world: World, pim: str) -> Client:
    """Another client of the same PIM."""
    return client_of(world, pim, SHOP)


@pytest.fixture
def strict(world: World) -> Client:
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
