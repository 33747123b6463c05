"""The cases, one small function each. A new module is imported here, which registers its cases."""

from . import (
    backlog,
    burst,
    chaos,
    client,
    deliver,
    fan_out,
    filters,
    functions,
    isolation,
    kept,
    logs,
    paced,
    replay,
    rest,
    soak,
    webhook,
)

__all__ = [
    "backlog",
    "burst",
    "chaos",
    "client",
    "deliver",
    "fan_out",
    "filters",
    "functions",
    "isolation",
    "kept",
    "logs",
    "paced",
    "replay",
    "rest",
    "soak",
    "webhook",
]
