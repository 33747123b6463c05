"""Shares the file descriptors of this process, so that connections to receivers never take the last ones.

A new descriptor has the lowest number that is free. So who uses numbers below a bound only leaves those above
it to others, however many of each kind are open, and nothing has to be counted.
"""

import resource

LEAST = 64
"""The descriptors that a process needs at least, to have some of each kind."""
_FOR_FILES = 64
_FOR_CLIENTS = 4096
_MANY = 2**31


def limit() -> int:
    """Returns how many this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft


def below_for_clients(of: int) -> int:
    """Returns the bound for connections that we accept: the rest is for files, pipes and lookups."""
    return of - min(_FOR_FILES, of // 16)


def below_for_receivers(of: int) -> int:
    """Returns the bound for connections that we open: a quarter is for those that we accept."""
    return below_for_clients(of) - min(_FOR_CLIENTS, of // 4)


def most_clients(asked: int, of: int) -> int:
    """Returns how many connections may be accepted at once when `asked` are wanted: half of all at most."""
    return min(asked, of // 2)
