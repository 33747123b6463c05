"""A function whose network comes later than its instance opens its port when it can connect."""

import asyncio
import socket
from pathlib import Path

import pytest

from aep.google.functions_on_emulators import FUNCTIONS, Function
from support.lone_functions import functions, start, stopped_in_the_end


def takes_connections(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def opened_early(six: list[Function], public: socket.socket) -> list[str]:
    """The functions whose ports are open when all six looked for the network, in vain.

    They look for the store first, so whoever has come to the public address did not find the store.
    """
    loop = asyncio.get_running_loop()
    for _ in six:
        arrived, _ = await loop.sock_accept(public)
        arrived.close()
    return [function.name for function in six if takes_connections(function.port)]


@pytest.mark.full
@pytest.mark.timeout(240)
async def test_a_function_opens_its_port_only_when_its_network_is_there(tmp_path: Path) -> None:
    with socket.socket() as store, socket.create_server(("127.0.0.1", 0)) as public:
        store.bind(("127.0.0.1", 0))
        public.setblocking(False)
        told = {
            "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{store.getsockname()[1]}",
            "AEP_AWAIT_NETWORK": f"127.0.0.1:{public.getsockname()[1]}",
        }
        six = functions(tmp_path, told)
        async with stopped_in_the_end(six):
            starting = asyncio.create_task(start(six))
            looking = asyncio.create_task(opened_early(six, public))
            await asyncio.wait({starting, looking}, return_when=asyncio.FIRST_COMPLETED)
            assert not starting.done(), starting.exception()
            assert looking.result() == []
            store.listen()
            await starting
        said = {function.name: "\n".join(function.lines()) for function in six}
    assert [name for name in FUNCTIONS if '"network.reached"' in said[name]] == list(FUNCTIONS)
