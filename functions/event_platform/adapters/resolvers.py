"""Looks names up with c-ares, by the machine's configuration as it is at the moment.

c-ares reads the configuration when a channel is made, and watches the folder of `/etc/resolv.conf` for
changes. It misses those of a file that this is a link to, or that is mounted over it. So we look ourselves,
and make a new channel.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import aiodns
import pycares
import structlog

log = structlog.get_logger()

CONFIGURATION = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
LOOK_SECONDS = 2.0
"""Seconds between two looks at the identity of these files. A lookup that failed looks again at once."""
LOOKUP_SECONDS = 3.0
"""The time for a lookup; with that for the question below it ends before a delivery's usual deadline."""
ASK_SECONDS = 1.5
"""The time that a nameserver has to answer that question."""
ASKED_SECONDS = 5.0
"""Seconds for which the result of that question counts, so that many names that fail cost one question."""
_FIRST_TRY_SECONDS = 1.0  # the second one gets twice that
_TRIES = 2
_ANSWERS = frozenset({pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND})

Identity = tuple[tuple[int, int, int, int] | None, ...]
"""Device, inode, time of change and size of each file."""


class NameNotResolved(OSError):
    """Raised when a name has no address, or nobody answered for it; its cause says which."""


class Unanswered(NameNotResolved):
    """Raised when no nameserver gave an answer of its own: none at all, or SERVFAIL and the like."""


class ResolverSilent(OSError):
    """Raised when our resolver cannot look names up now, so that nothing is known of this one."""


class Resolver(Protocol):
    """Looks names up."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Every address of the name, at least one. Raises NameNotResolved, ResolverSilent."""
        ...

    async def close(self) -> None:
        """Ends pending lookups."""
        ...


MakeResolver = Callable[[], Resolver]


class CaresResolver:
    """One channel of c-ares: `timeout` seconds for the first of the `tries`.

    Made in the running loop. Without `nameservers` it reads the machine's configuration. `flags` are those of
    c-ares.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        timeout: float = _FIRST_TRY_SECONDS,
        tries: int = _TRIES,
        flags: int = 0,
    ) -> None:
        try:
            self._dns = aiodns.DNSResolver(nameservers, timeout=timeout, tries=tries, flags=flags)
        except pycares.AresError as error:
            _check_sockets()
            raise ResolverSilent("c-ares could not be set up") from error

    async def resolve(self, host: str) -> Sequence[str]:
        """Resolves as `Resolver` says. Leaves out addresses of a family that this machine has none of."""
        try:
            found = await self._dns.getaddrinfo(host, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except aiodns.error.DNSError as error:
            _check_sockets()
            kind = NameNotResolved if error.args[0] in _ANSWERS else Unanswered
            raise kind(error.args[1]) from error
        if not found.nodes:
            raise NameNotResolved("no address")
        return [node.addr[0].decode() for node in found.nodes]

    async def answers(self) -> bool:
        """True if a nameserver says anything about a name that nobody has: the root's servers know that.

        The name is a new one each time, so that no cache on the way answers.
        """
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._dns.query_dns(f"{secrets.token_hex(8)}.{secrets.token_hex(8)}", "NS")
        except aiodns.error.DNSError as error:
            return error.args[0] in _ANSWERS
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Closes as `Resolver` says."""
        await self._dns.close()


class RenewedResolver:
    """The `Resolver` on channels that `make` makes: a new one when the configuration changed, or nobody
    answers.

    A name that nobody answers for counts as one that does not resolve only if the nameservers answer another
    question. Else the lookup raises ResolverSilent, and the next one has a new channel. Whoever makes up the
    names that we look up cannot bring that about.
    """

    def __init__(
        self,
        make: Callable[[], CaresResolver],
        *,
        configuration: Sequence[str] = CONFIGURATION,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._make = make
        self._configuration = configuration
        self._look_seconds = look_seconds
        self._loop = asyncio.get_running_loop()
        self._identity = _identity_of(configuration)
        self._looked_at = self._loop.time()
        self._channel = make()
        self._lookups: dict[CaresResolver, int] = {}
        self._asking: asyncio.Task[bool] | None = None
        self._asked_until = 0.0
        self._is_silent = False
        self._is_closed = False

    async def resolve(self, host: str) -> Sequence[str]:
        """Resolves as `Resolver` says."""
        if self._loop.time() - self._looked_at >= self._look_seconds:
            await self._look()
        async with self._using(self._channel) as used:
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    return await used.resolve(host)
            except TimeoutError as error:
                await self._check_answers(used, error)
                raise Unanswered("no answer in time") from error
            except Unanswered as error:
                await self._check_answers(used, error)
                raise
            except NameNotResolved as error:
                await self._check_current(used, error)
                raise

    async def close(self) -> None:
        """Closes as `Resolver` says."""
        self._is_closed = True
        for channel in (self._channel, *self._lookups):
            await channel.close()
        if self._asking is not None:
            await asyncio.wait([self._asking])

    @asynccontextmanager
    async def _using(self, channel: CaresResolver) -> AsyncGenerator[CaresResolver, None]:
        """Counts a lookup. The last one closes a channel that was replaced."""
        self._lookups[channel] = self._lookups.get(channel, 0) + 1
        try:
            yield channel
        finally:
            self._lookups[channel] -= 1
            if not self._lookups[channel]:
                del self._lookups[channel]
                if channel is not self._channel:
                    await channel.close()

    async def _replace(self) -> None:
        replaced, self._channel = self._channel, self._make()
        if replaced not in self._lookups:
            await replaced.close()

    async def _look(self) -> None:
        """Makes a new channel if the configuration changed. The old one ends with the lookups that use it."""
        self._looked_at = self._loop.time()
        found = _identity_of(self._configuration)
        if found != self._identity and not self._is_closed:
            self._identity = found
            self._asking = None
            await self._replace()
            log.info("resolver.renewed", reason="the configuration changed")

    async def _check_current(self, used: CaresResolver, error: Exception) -> None:
        """Raises ResolverSilent if the channel was replaced since the lookup began."""
        await self._look()
        if used is not self._channel:
            raise ResolverSilent("the resolver was renewed") from error

    async def _check_answers(self, used: CaresResolver, error: Exception) -> None:
        """Raises ResolverSilent if the channel was replaced, or gets no answer to another question either."""
        if self._is_closed:
            return
        await self._check_current(used, error)
        if self._asking is None or (self._asking.done() and self._loop.time() >= self._asked_until):
            self._asking = self._loop.create_task(self._ask(used))
        if not await asyncio.shield(self._asking):
            raise ResolverSilent("no nameserver answers") from error

    async def _ask(self, channel: CaresResolver) -> bool:
        """Returns whether the channel gets an answer. If not, makes a new one."""
        async with self._using(channel):
            works = await channel.answers()
            self._asked_until = self._loop.time() + ASKED_SECONDS
            if not (works or self._is_silent):
                log.warning("resolver.renewed", reason="no nameserver answers")
            self._is_silent = not works
            if not (works or self._is_closed) and channel is self._channel:
                await self._replace()
            return works


def public_names(nameservers: Sequence[str] | None = None) -> Resolver:
    """Lookups of full names only: a search list could turn a stranger's name into one of ours."""
    return RenewedResolver(lambda: CaresResolver(nameservers, flags=pycares.ARES_FLAG_NOSEARCH))


def local_names(nameservers: Sequence[str] | None = None) -> Resolver:
    """Lookups as the machine is set up, search list included."""
    return RenewedResolver(lambda: CaresResolver(nameservers))


def _identity_of(paths: Sequence[str]) -> Identity:
    return tuple(map(_identity, paths))


def _identity(path: str) -> tuple[int, int, int, int] | None:
    """Returns what identifies the file, or None if there is none. Follows links."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _check_sockets() -> None:
    """Raises if this process has no socket left, which c-ares does not say."""
    socket.socket().close()
