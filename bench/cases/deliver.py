"""The function `deliver` alone, which gets pushes, beside an empty function that gets the same."""

import asyncio
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from aep.google import emulators
from event_platform.adapters.clock import SystemClock
from event_platform.adapters.firestore.client import connect
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.seal import AesGcmSeal, keys_from_base64
from event_platform.domain.subscriptions import Contact, HttpsConfig, Owner, Subscriber, Subscription

from .. import deployed, integrity, machine, profiling
from ..errors import LeftOut
from ..events import PUSHES, TYPE, event_id
from ..figures import Figure, at_least, case
from ..measuring import PATH, Bench
from ..platform import NO_LIMIT, SECRET
from ..pushes import LANES, SUBSCRIPTION_ID, TOPIC
from ..workers import Worker

WARM_UP = 500
"""The pushes before the measured ones: the subscription is read, connections are opened."""


@case("deliver", "the function `deliver` alone, fed pushes over HTTP")
def deliver(bench: Bench) -> list[Figure]:
    with ExitStack() as held:
        try:
            firestore = held.enter_context(emulators.running_firestore())
        except emulators.EmulatorFailed as error:
            raise LeftOut(str(error)) from None
        project = f"bench-{time.monotonic_ns():x}"
        asyncio.run(_subscribe(firestore, project, bench.sink_url + PATH))
        settings = {
            **deployed.SETTINGS,
            **NO_LIMIT,
            "GOOGLE_CLOUD_PROJECT": project,
            "FIRESTORE_EMULATOR_HOST": firestore,
            "AEP_DEV": "true",
        }
        function = held.enter_context(deployed.running("deliver", settings))
        rate, cpu_ms = _fed(bench, function, 204)
    with deployed.empty(python=deployed.interpreter_of_framework()) as nothing:
        floor_rate, floor_cpu_ms = _fed(bench, nothing, 200)
    with deployed.empty() as nothing:
        beside_rate, beside_cpu_ms = _fed(bench, nothing, 200)
    return [
        Figure("pushes answered", rate, "/s"),
        Figure("CPU per push", cpu_ms, "ms"),
        Figure("empty function, framework as it comes", floor_rate, "/s"),
        Figure("its CPU per request", floor_cpu_ms, "ms"),
        Figure("deliver, of its rate", rate / floor_rate * 100, "%", at_least(35)),
        Figure("empty function, with all our packages", beside_rate, "/s"),
        Figure("CPU per request of that", beside_cpu_ms, "ms"),
        Figure("deliver, of that rate", rate / beside_rate * 100, "%"),
    ]


def _fed(bench: Bench, function: deployed.Function, status: int) -> tuple[float, float]:
    """Returns pushes answered a second, and the function's CPU-ms for each. Raises BenchFailed."""
    _push(bench, function, WARM_UP, status)
    with _profiled(bench, function, status):
        rows, seconds, cpu = _push(bench, function, bench.options.events, status)
    return rows / seconds, cpu * 1e3 / rows


def _profiled(bench: Bench, function: deployed.Function, status: int) -> AbstractContextManager[None]:
    """Profiles the process that answers, the last one of the server; the empty function needs no profile."""
    if bench.options.profile is None or status != 204:
        return nullcontext()
    worker = machine.tree(function.pid)[-1]
    return profiling.flame_graph(bench.options.py_spy, worker, bench.options.profile)


def _push(bench: Bench, function: deployed.Function, number: int, status: int) -> tuple[int, float, float]:
    run = f"bench-{time.monotonic_ns():x}"
    order = {
        "url": f"{function.url}/{TOPIC}",
        "keys": [""],
        "format": PUSHES,
        "run": run,
        "events": number,
        "batch": 1,
        "connections": bench.options.connections,
        "rate": None,
        "size": bench.options.size,
    }
    with Worker("bench.load", order) as load:
        load.answer()  # prepared
        bench.sink.ask("reset")
        before = machine.cpu_seconds(function.pid)
        result: dict[str, Any] = load.ask("go", within=60 + number / 100)
        cpu = machine.cpu_seconds(function.pid) - before
    integrity.check_accepted(result["rows"], [status])
    if status == 204:  # so each has arrived
        expected = {event_id(run, each) for each in range(number)}
        integrity.check(expected, bench.sink.ask("arrivals"), bench.sink.ask("count"), [PATH])
    return len(result["rows"]), (result["ended"] - result["started"]) / 1e9, cpu


async def _subscribe(firestore: str, project: str, url: str) -> None:
    """Puts the subscription of the pushes into the store that the function reads."""
    now = datetime.now(UTC)
    owner = Owner("https://pim.example.com", "bench")
    subscriber = Subscriber(
        id="018f0000-0000-7000-8000-000000000000",
        owner=owner,
        name="Bench",
        subject=owner.tenant,
        contact=Contact("bench@example.com", (), None),
        created_at=now,
        updated_at=now,
    )
    subscription = Subscription(
        id=SUBSCRIPTION_ID,
        subscriber_id=subscriber.id,
        owner=owner,
        source="pim",
        subject=owner.tenant,
        events=(TYPE,),
        config=HttpsConfig(url, SecretStr(SECRET)),
        created_at=now,
        updated_at=now,
        lanes=LANES,
    )
    store = connect(project, emulator=firestore)
    seal = AesGcmSeal(*keys_from_base64(deployed.SETTINGS["AEP_SECRETS_KEY"]))
    await FirestoreSubscriptions(store, seal, SystemClock()).bring_in(subscriber, [subscription])
    await store.close()
