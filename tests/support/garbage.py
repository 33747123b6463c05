"""Finds the objects that a piece of work leaves to the garbage collector."""

import contextlib
import gc
import os
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def garbage_frames() -> Iterator[set[str]]:
    """Yields a set that has, after the block, the functions of ours whose frames only the collector frees."""
    gc.collect()
    kept: set[str] = set()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield kept
        gc.collect()
        codes = [found.f_code for found in gc.garbage if isinstance(found, FrameType)]
        kept |= {code.co_qualname for code in codes if f"{os.sep}event_platform{os.sep}" in code.co_filename}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
