"""Accepts connections: bounds their number, from one address and in all, and ends idle ones for new ones."""

import asyncio
import errno
import os
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from event_platform.adapters import descriptors
from event_platform.domain.front_door import site_of
from event_platform.domain.line_limit import LineLimit

log = structlog.get_logger()

CONNECTIONS_OF_ADDRESS = 1024
HELD_BYTES = 16 * 1024 * 1024
"""The bytes that may wait in all connections for the answers that go before them."""
UNREAD_BYTES = 32 * 1024 * 1024
"""The bytes of answers that may wait in all connections until their clients read them."""
HANDSHAKE_SECONDS = 10.0
DROPPED_AT_ONCE = 16
"""The number of connections that are ended at a time when there is no room, as it takes work to choose
them.
"""
ACCEPTED_AT_ONCE = 64
PAUSE_SECONDS = 1.0
"""The seconds for which nothing is accepted when there are no file descriptors left."""

RAISE_THE_LIMIT = "raise the hard limit to 65536 (ulimit -Hn, or LimitNOFILE= of the unit)"

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Place:
    """The place of one connection among those of the server. `drop` ends the connection.

    It is idle while it waits for its client: for a handshake, a request, or an answer to be read.
    """

    __slots__ = ("_held", "_places", "drop", "is_idle", "site", "unread")

    def __init__(
        self, places: "Places | None" = None, site: str = "", drop: Callable[[], object] = lambda: None
    ) -> None:
        self._places = places
        self.site = site
        self.drop = drop
        self.is_idle = True
        self._held = 0
        self.unread = 0

    def busy(self) -> None:
        """Notes that the client has sent a request and waits for the answer."""
        self.is_idle = False

    def idle(self) -> None:
        """Notes that we wait for the client from now on."""
        self.is_idle = True
        if self._places is not None:
            self._places.move_to_end(self)

    def hold(self, size: int) -> bool:
        """Sets the bytes that are held for the connection. False if all connections hold too much."""
        if self._places is None:
            return True
        self._places.held += size - self._held
        self._held = size
        return self._places.held <= HELD_BYTES

    def set_unread(self, size: int) -> None:
        """Sets the bytes that wait until the client reads them.

        May drop connections, if all together have too many.
        """
        if self._places is not None:
            self._places.add_unread(self, size - self.unread)

    def leave(self) -> None:
        """Frees the place. Does nothing if that was done."""
        self.hold(0)
        self.set_unread(0)
        if self._places is not None:
            self._places.remove(self)
            self._places = None


class Places:
    """All connections of a server, by their address; first in each list is the one idle for longest."""

    def __init__(self, most: int, most_of_site: int) -> None:
        self._most = most
        self._most_of_site = most_of_site
        self._sites: dict[str, OrderedDict[Place, None]] = {}
        self._taken = 0
        self._unread_of: Counter[str] = Counter()  # by address
        self.unread = 0
        self.held = 0
        self.dropped = 0

    def take(self, site: str, drop: Callable[[], object]) -> Place | None:
        """Returns a place for a connection, or None if every other connection is busy.

        If an address has its full share, its own connection that was idle for longest is ended. If no place
        is left, connections of the address with most are ended.
        """
        own = self._sites.get(site)
        if own is not None and len(own) >= self._most_of_site:
            if self._drop_idle(own, 1) == 0:
                return None
        elif self._taken >= self._most and not self.make_room():
            return None
        place = Place(self, site, drop)
        self._sites.setdefault(site, OrderedDict())[place] = None
        self._taken += 1
        return place

    def make_room(self) -> bool:
        """Ends idle connections, of the address that has most if it has idle ones. True if any ended."""
        if not self._sites:
            return False
        largest = max(self._sites.values(), key=len)
        return any(self._drop_idle(each, DROPPED_AT_ONCE) for each in (largest, *self._sites.values()))

    def add_unread(self, place: Place, size: int) -> None:
        """Counts bytes that the client of a connection has not read.

        If there are too many in all, connections of the address with most end, those idle for longest first.
        """
        place.unread += size
        self.unread += size
        self._unread_of[place.site] += size
        if not self._unread_of[place.site]:
            del self._unread_of[place.site]
        while size > 0 and self.unread > UNREAD_BYTES:
            ((site, _),) = self._unread_of.most_common(1)
            self._drop([each for each in self._sites[site] if each.unread][:DROPPED_AT_ONCE])

    def move_to_end(self, place: Place) -> None:
        """Notes that the connection is idle from now on, so all others that are idle end before it."""
        self._sites[place.site].move_to_end(place)

    def remove(self, place: Place) -> None:
        own = self._sites[place.site]
        del own[place]
        if not own:
            del self._sites[place.site]
        self._taken -= 1

    def _drop_idle(self, places: OrderedDict[Place, None], number: int) -> bool:
        """Ends up to that many connections, those first that were idle for longest. True if any was ended."""
        chosen = list(islice((place for place in places if place.is_idle), number))
        self._drop(chosen)
        return bool(chosen)

    def _drop(self, chosen: Sequence[Place]) -> None:
        for place in chosen:
            place.leave()
            place.drop()
        self.dropped += len(chosen)


class Acceptor:
    """Accepts the connections of a listening socket, in place of asyncio's own server.

    asyncio's server does not report a connection before its TLS handshake is over. There are `most`
    connections at a time. `by_address` says that the peer of a connection is the client, and no proxy. A
    connection that `admits` returns False for is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[Place], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None,
        most: int,
        by_address: bool,
        admits: Callable[[socket.socket], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._tls = tls
        self._by_address = by_address
        self._admits = admits
        files = descriptors.limit()
        self._descriptors_below = descriptors.below_for_clients(files)
        # Connections that ended have their descriptors until the loop comes round.
        self._at_once = min(ACCEPTED_AT_ONCE, max(1, files // 16))
        self._places = Places(most, min(CONNECTIONS_OF_ADDRESS, most // 2) if by_address else most)
        self._under_way: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._refused = 0
        self._lines = LineLimit(self._loop.time)
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accepts no more connections, and ends those in their handshake."""
        self._loop.remove_reader(self._listener)
        if self._paused is not None:
            self._paused.cancel()
        for task in self._under_way:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._pause(error.errno)
                break
            if connection.fileno() >= self._descriptors_below and not self._pause(errno.EMFILE):
                self._refused += 1
                connection.close()
                break
            if self._admits is not None and not self._admits(connection):
                connection.close()
                continue
            self._admit(connection, site_of(peer[0]) if self._by_address else "")
            if self._paused is not None:
                break
        if self._places.dropped or self._refused:
            self._say()

    def _admit(self, connection: socket.socket, site: str) -> None:
        place = self._places.take(site, connection.close)
        if place is None:
            self._refused += 1
            connection.close()
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._serve(connection, place))
        place.drop = task.cancel
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        """Hands a connection to its protocol, after the TLS handshake if the server has TLS."""
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(place),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
            )
        except OSError:  # the handshake failed; what did not, tells the protocol of its end
            place.leave()
        except asyncio.CancelledError:  # it ends for another connection, or with the server
            place.leave()
            connection.close()
            raise

    def _pause(self, error: int) -> bool:
        """Accepts nothing for a moment: new connections wait in the system.

        True if idle connections were ended and made room.
        """
        has_room = self._places.make_room()
        self._loop.remove_reader(self._listener)
        self._paused = self._loop.call_later(PAUSE_SECONDS, self._resume)
        self._say(os.strerror(error))
        return has_room

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener, self._accept)

    def _say(self, error: str | None = None) -> None:
        """Logs at most once a minute which connections were refused or ended."""
        if not self._lines.count("connections.full"):
            return
        log.warning("connections.full", dropped=self._places.dropped, refused=self._refused, error=error)
        self._places.dropped = self._refused = 0

    async def wait_closed(self) -> None:
        """Returns when no handshake is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)
