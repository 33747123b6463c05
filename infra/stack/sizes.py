"""The size of each function's instances and their number, within what Cloud Run has in the region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import DeploymentSettings

ROOM = 1.5
"""Instances × concurrency are above the messages that Pub/Sub has outstanding by this: docs/scale.md."""
CONCURRENCY = 80
CONCURRENCY_OF_INGEST = 20
"""Ingest holds what a request brought until that is durable: 20 MiB of a PIM's webhook, or 31 MiB that 5 MiB
of CloudEvents become. As many of these at once, 200 MiB to read one of them and 150 MiB for the process fit
into 1 GiB."""
CONCURRENCY_OF_DELIVER = 250
"""A delivery has at most 900 KiB once it is read, and what is being read has a bound of its own (push.py). So
220 MiB of bodies, 40 MiB that are read and some copies of these fit into 1 GiB."""
CPUS_OF_AN_INSTANCE = 1
MOST = {"manage": 10, "ingest": 20, "maintain": 2, "notify": 10}
"""Instances at most unless `maxInstances` says others. Those of fanout and deliver follow from messages."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an instance, and their greatest number.

    `memory` as Google writes it, `timeout` in seconds.
    """

    max_instances: int
    concurrency: int = CONCURRENCY
    memory: str = "512Mi"
    timeout: int = 60
    min_instances: int = 0


def sizes_of(settings: DeploymentSettings) -> Mapping[str, Size]:
    """Returns the size of each function."""
    most = {**MOST, **_needed(settings), **settings.max_instances}
    # A new instance has no network for up to 80 s then, and its requests wait for so long.
    ready = 1 if settings.static_egress else 0
    return {
        "manage": Size(most["manage"], min_instances=ready),
        "ingest": Size(
            most["ingest"],
            concurrency=CONCURRENCY_OF_INGEST,
            memory="1Gi",
            min_instances=settings.ingest_min_instances,
        ),
        "fanout": Size(most["fanout"], memory="1Gi"),
        "deliver": Size(
            most["deliver"], concurrency=CONCURRENCY_OF_DELIVER, memory="1Gi", min_instances=ready
        ),
        "maintain": Size(most["maintain"], concurrency=4, timeout=180),
        "notify": Size(most["notify"]),
    }


def check_sizes(settings: DeploymentSettings) -> None:
    """Raises ValueError for what Cloud Run would refuse, and for too few instances; it names the key."""
    needed, cpus = _needed(settings), settings.cloud_run_cpus
    for name, size in sizes_of(settings).items():
        if size.max_instances * CPUS_OF_AN_INSTANCE > cpus:
            derived = name in needed and name not in settings.max_instances
            raise ValueError(
                f"{'outstandingMessages' if derived else 'maxInstances'}: {name} would have up to"
                f" {size.max_instances} instances of a CPU each, and Cloud Run has {cpus} CPUs for the"
                " project in the region (cloudRunCpus): lower it, or have the quota raised and set"
                " cloudRunCpus to it"
            )
        if size.max_instances < needed.get(name, 0):
            raise ValueError(
                f"maxInstances: {name} must have {needed[name]} at least, or pushes of outstandingMessages"
                " find no instance: lower outstandingMessages, or leave it out here"
            )
        if size.min_instances > size.max_instances:
            raise ValueError(f"{name}MinInstances: must not be above maxInstances, {size.max_instances}")


def _needed(settings: DeploymentSettings) -> Mapping[str, int]:
    """Returns how many instances what Pub/Sub has outstanding takes."""

    def instances(messages: int, concurrency: int) -> int:
        return math.ceil(ROOM * messages / concurrency)

    outstanding = settings.outstanding_messages
    return {
        "fanout": instances(outstanding, CONCURRENCY),
        "deliver": instances(outstanding * settings.topics_of_deliveries, CONCURRENCY_OF_DELIVER),
    }
