"""The functions of Google Cloud: from the start of a process to its first answer, each beside its floor."""

from .. import deployed
from ..figures import Figure, at_most, case
from ..measuring import Bench

_FIRESTORE = "import google.cloud.firestore_v1"
_AND_PUBSUB = f"{_FIRESTORE}, google.pubsub_v1"
CLIENTS = {
    "manage": _FIRESTORE,
    "ingest": _AND_PUBSUB,
    "fanout": _AND_PUBSUB,
    "deliver": _FIRESTORE,
    "maintain": _FIRESTORE,
    "notify": _FIRESTORE,
}
"""Google's clients without which a function cannot answer its first request: the imports of its floor."""
AIM_SECONDS = 0.6
ABOVE_FLOOR_SECONDS = 0.1


@case("functions", "each cloud function, start to /health")
def functions(bench: Bench) -> list[Figure]:
    with deployed.empty() as nothing:
        figures = [Figure("an empty function", nothing.seconds, "s")]
    for name, imports in CLIENTS.items():
        with deployed.empty(imports) as with_clients:
            floor = with_clients.seconds
        with deployed.running(name, deployed.SETTINGS) as function:
            seconds = function.seconds
        aim = max(AIM_SECONDS, floor + ABOVE_FLOOR_SECONDS)
        figures += [
            Figure(name, seconds, "s", at_most(aim)),
            Figure(f"{name}: floor of Google's clients", floor, "s"),
            Figure(f"{name}: above it", seconds - floor, "s"),
        ]
    return figures
