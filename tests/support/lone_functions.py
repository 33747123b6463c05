"""The six functions, started by the Functions Framework as on Google; nothing that they call is there."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aep.google.functions_on_emulators import FUNCTIONS, Function
from aep.google.ports import free_ports
from support.processes import environment

NOWHERE = "127.0.0.1:1"


def functions(folder: Path, settings: Mapping[str, str]) -> list[Function]:
    """The six, not started yet. `folder` takes their logs."""
    told = environment(
        {
            "GOOGLE_CLOUD_PROJECT": "test",
            "PUBSUB_EMULATOR_HOST": NOWHERE,
            "FIRESTORE_EMULATOR_HOST": NOWHERE,
            "AEP_SECRETS_KEY": "A" * 43 + "=",
            "AEP_REGISTRY_KEY": "B" * 42 + "A=",
            "AEP_PUBLIC_URL": "https://events.example.com",
            **settings,
        }
    )
    return [
        Function(name, port, told, folder / f"{name}.log")
        for name, port in zip(FUNCTIONS, free_ports(len(FUNCTIONS)), strict=True)
    ]


@asynccontextmanager
async def stopped_in_the_end(functions: Iterable[Function]) -> AsyncIterator[None]:
    """Stops the functions after the block, whatever became of them."""
    try:
        yield
    finally:
        await asyncio.gather(*(function.stop() for function in functions))


async def start(functions: Iterable[Function]) -> None:
    """Returns when all take requests. Raises ChildFailed in a group."""
    async with asyncio.TaskGroup() as group:
        for function in functions:
            group.create_task(function.start())
