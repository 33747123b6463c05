"""Pipes that nobody reads."""

import fcntl
import os
import select

ROOM = 4096
"""Bytes that a pipe holds, once `fill` has made it as small as it can be."""


def fill(writing: int) -> None:
    """Fills a pipe to the brim, so that whoever writes to it waits for a reader."""
    assert fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM) == ROOM
    os.set_blocking(writing, False)
    assert os.write(writing, b"x" * ROOM) == ROOM
    assert not select.select([], [writing], [], 0)[1]
    os.set_blocking(writing, True)


def read_all(reading: int) -> bytes:
    """Returns the bytes that are in a pipe now."""
    found = b""
    while select.select([reading], [], [], 0)[0] and (piece := os.read(reading, 1 << 16)):
        found += piece
    return found
