"""Ports for programs that must be told where to listen."""

import itertools
import os
import socket

_FIRST, _COUNT = 20_000, 12_000
"""Below those that Linux gives to outgoing connections and to who asks for any port (from 32768)."""
_numbers = itertools.count(os.getpid() * 1009)  # processes that were started together are far apart


def free_ports(number: int) -> list[int]:
    """Returns ports of 127.0.0.1 that nothing listens on, each another until all were returned once."""
    ports = (_FIRST + each % _COUNT for each in itertools.islice(_numbers, _COUNT))
    found = list(itertools.islice(filter(_is_free, ports), number))
    if len(found) < number:
        raise OSError(f"no {number} free ports from {_FIRST} to {_FIRST + _COUNT - 1}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: what is left of connections that ended is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
