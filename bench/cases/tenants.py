"""Many PIMs, each with many subscriptions of which most get nothing: what an event of any of them costs."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aep.runtime import children

from .. import machine
from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load, Measured
from ..platform import Platform, environment
from ..tenants import put_pims

EACH = 400
"""The subscriptions of a PIM, the most that it may have."""
SMALL, WHOLE = 20, 1000
RATE, PACED_SECONDS = 200.0, 5.0
COLD_ROUNDS, WARM_ROUNDS = 2, 20
LEAST_EVENTS = 1000
PAGE_BYTES = 16 * 1024
"""The output of a command that counts as its first page."""
COMMANDS = {
    "aep status": ["status"],
    "aep status --json": ["status", "--json"],
    "aep subscriptions list": ["subscriptions", "list", "--operator"],
    "aep pims list": ["pims", "list"],
}


@dataclass(frozen=True, slots=True)
class _Served:
    start_seconds: float
    idle_mb: float
    cold: Measured
    warm: Measured
    paced: Measured
    after_mb: float
    commands: dict[str, "_Command"]


@dataclass(frozen=True, slots=True)
class _Command:
    page_seconds: float  # until the first page of the output
    seconds: float
    mb: float


@case("tenants", "PIMs with 400 subscriptions each, most of them idle", by_default=False)
def tenants(bench: Bench) -> list[Figure]:
    pims = WHOLE if bench.options.whole else SMALL
    one, many = _serve(bench, 1, pims), _serve(bench, pims, pims)
    cold, warm = many.cold.cpu_ms_per_delivery, many.warm.cpu_ms_per_delivery
    alone = one.warm.cpu_ms_per_delivery
    return [
        Figure("PIMs", pims, ""),
        Figure("subscriptions", pims * EACH, ""),
        Figure("start until ready", many.start_seconds, "s"),
        Figure("memory (PSS) idle", many.idle_mb, "MB"),
        Figure("memory (PSS) after all", many.after_mb, "MB", at_most(150)),
        Figure("CPU per delivery of one PIM, warm", alone, "ms"),
        Figure("of all of them, the first events of each", cold, "ms"),
        Figure("ratio to one PIM", cold / alone, "", at_most(2)),
        Figure("of all of them, warm", warm, "ms"),
        Figure("ratio to one PIM, warm", warm / alone, "", at_most(1.3)),
        Figure("p99 of one PIM", _p99(one.paced), "ms"),
        Figure("p99 of all of them", _p99(many.paced), "ms"),
        Figure("ratio of p99", _p99(many.paced) / _p99(one.paced), "", at_most(3)),
        *(
            figure
            for name, command in many.commands.items()
            for figure in (
                Figure(f"{name}, first page", command.page_seconds, "s", at_most(1)),
                Figure(f"{name}, all of it", command.seconds, "s"),
                Figure(f"{name}, its memory", command.mb, "MB", at_most(100)),
            )
        ),
    ]


def _serve(bench: Bench, pims: int, rounds_of: int) -> _Served:
    """Serves events that are spread evenly over so many PIMs."""
    warm = max(LEAST_EVENTS, WARM_ROUNDS * rounds_of)
    with bench.installed() as installation:
        endpoints = bench.endpoints([PATH] * 20)
        keys = put_pims(installation.folder / "data", endpoints, pims=pims, each=EACH)
        with installation.running() as platform:
            time.sleep(1)
            idle_mb = platform.pss_mb()
            cold = bench.publish(platform, Load(COLD_ROUNDS * rounds_of, keys=keys))
            bench.publish(platform, Load(warm, keys=keys))
            measured = bench.publish(platform, Load(warm, keys=keys))
            paced = bench.publish(platform, Load(round(RATE * PACED_SECONDS), rate=RATE, keys=keys))
            after_mb = platform.pss_mb()
            commands = {name: _run(platform, each) for name, each in COMMANDS.items()} if pims > 1 else {}
            return _Served(platform.start_seconds, idle_mb, cold, measured, paced, after_mb, commands)


def _p99(measured: Measured) -> float:
    return percentile([each for of_path in measured.latencies.values() for each in of_path], 99)


def _run(platform: Platform, arguments: Sequence[str]) -> _Command:
    """Runs a command beside the platform; its memory is the most that it had resident."""
    began, mb = time.monotonic(), 0.0
    command = [*children.aep(*arguments), "--data", str(platform.folder / "data")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment({}))  # noqa: S603 - one of ours
    with child:
        assert child.stdout is not None  # noqa: S101 - it was asked for as a pipe
        page = child.stdout.read(PAGE_BYTES)
        page_seconds = time.monotonic() - began
        while page:
            mb = max(mb, machine.highest_resident_mb(child.pid))
            page = child.stdout.read(PAGE_BYTES)
    if child.returncode:
        raise BenchFailed(f"aep {' '.join(arguments)} ended with status {child.returncode}")
    return _Command(page_seconds, time.monotonic() - began, mb)
