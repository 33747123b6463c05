"""The six functions that are deployed. Each hands its requests to its app, which `wiring` builds.

Each starts alone: functions-framework --source functions/main.py --target NAME
"""

import os

from functions_framework import aio
from starlette.requests import Request
from starlette.responses import Response
from uvicorn_worker import UvicornWorker

from event_platform import wiring

IDLE_SECONDS = 620
"""Seconds for which a connection is kept between two requests. Google's load balancer keeps one for 600 s,
and a request that it sends at the moment when we close is lost. The framework has no setting for it."""
UvicornWorker.CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "timeout_keep_alive": IDLE_SECONDS}
# The framework kills a worker that gives no sign of life for so long. Between two requests an instance has no
# CPU, so the requests that end a pause would be lost: docs/decisions/0060-functions-that-are-frozen.md.
os.environ["CLOUD_RUN_TIMEOUT_SECONDS"] = "0"


@aio.http
async def manage(request: Request) -> Response:
    """The management API and the schemas. Public."""
    return wiring.manage()


@aio.http
async def ingest(request: Request) -> Response:
    """Takes a PIM's events in. Public."""
    return wiring.ingest()


@aio.http
async def fanout(request: Request) -> Response:
    """Pushed by `events` and `pim-events-<tenant key>`: one delivery for each match."""
    return wiring.fanout()


@aio.http
async def deliver(request: Request) -> Response:
    """Pushed by `deliveries-<shard>`: one attempt."""
    return wiring.deliver()


@aio.http
async def maintain(request: Request) -> Response:
    """Called each minute: puts due retries back into their lanes, and publishes due notifications."""
    return wiring.maintain()


@aio.http
async def notify(request: Request) -> Response:
    """Pushed by `notifications`: notifies a subscriber, by e-mail and by webhook."""
    return wiring.notify()


# The framework names the function that it starts here; a wrong setting is to stop it now, not its requests.
wiring.start(os.environ.get("FUNCTION_TARGET"))
