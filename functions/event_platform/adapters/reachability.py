"""Waits until this machine can connect to where a function will have to.

It runs before the server forks, so it leaves neither a thread nor a connection behind (decision 0023).
"""

import socket
import time
from collections.abc import Callable, Sequence

TRY_SECONDS = 2.0
PAUSE_SECONDS = 0.5
ADDRESSES_TRIED = 4


class Unreachable(Exception):
    """Raised when the limit is over; says what could not be connected to."""


def connect(address: str, timeout: float) -> None:
    """Opens a connection to `host:port` and closes it. Raises OSError.

    A name's first four addresses are tried, for `timeout` seconds each.
    """
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[:ADDRESSES_TRIED]
    for number, (family, kind, protocol, _, where) in enumerate(found, 1):
        with socket.socket(family, kind, protocol) as opened:
            opened.settimeout(timeout)
            try:
                opened.connect(where)
            except OSError:
                if number == len(found):
                    raise
            else:
                return


def wait_until_reachable(
    *alternatives: Sequence[str],
    limit: float,
    connect: Callable[[str, float], None] = connect,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Returns when one address (`host:port`) of each sequence took a connection; the seconds that it took.

    Raises Unreachable after `limit` seconds. A name that is being looked up then may take some more.
    """
    began = monotonic()
    failures = dict.fromkeys(map(tuple, alternatives), "")
    number = 0
    while True:
        for addresses in tuple(failures):
            try:
                connect(addresses[number % len(addresses)], TRY_SECONDS)
                del failures[addresses]
            except OSError as error:
                failures[addresses] = error.strerror or str(error)
        taken = monotonic() - began
        if not failures:
            return taken
        if taken >= limit:
            missing = [f"{' or '.join(each)} ({failure})" for each, failure in failures.items()]
            raise Unreachable(f"no connection within {limit:g} s to {', nor to '.join(missing)}")
        sleep(PAUSE_SECONDS)
        number += 1
