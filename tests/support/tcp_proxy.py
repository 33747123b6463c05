"""A TCP proxy before a server, which tests cut and mend: what stands behind it is away in between."""

import asyncio

from support.processes import free_port


class TcpProxy:
    """Listens on one port of this machine for as long as it is not cut; belongs to one event loop."""

    def __init__(self, target: str) -> None:
        self._host, _, self._target_port = target.partition(":")
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`host:port`, the same for life."""
        return f"127.0.0.1:{self._port}"

    async def mend(self) -> None:
        """Begins to listen, or does so again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Resets what is connected and refuses what comes."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._target_port))
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
