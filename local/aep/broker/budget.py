"""The budgets of a process that delivers: the bytes that it holds in memory, and the attempts at once."""

from event_platform.budget import MIB, Budget

SHARED_BYTES = 64 * MIB
RESERVE_BYTES = 16 * MIB
"""The bytes beyond the shared ones, for owners who hold less than MINIMUM_BYTES."""
MINIMUM_BYTES = 256 * 1024
ATTEMPTS_AT_ONCE = 2048
"""The attempts of a process that hold a connection or open one. Each may try four addresses at once."""
FILES_OF_ATTEMPT = 8
"""The files that an attempt needs: four for its sockets. As many are left for everything else."""

OwnerKey = tuple[str, str]
"""The tenant and the client id."""


def bytes_in_flight() -> Budget:
    """The budget of the bodies that are in memory, waiting or being sent."""
    return Budget(SHARED_BYTES, RESERVE_BYTES, MINIMUM_BYTES)


def attempts_at_once(open_files: int) -> Budget:
    """The budget of attempts for a process that may have so many files open (-1: any number)."""
    most = (
        ATTEMPTS_AT_ONCE if open_files < 0 else min(ATTEMPTS_AT_ONCE, max(16, open_files // FILES_OF_ATTEMPT))
    )
    return Budget(most - most // 8, reserve=most // 8, minimum=max(1, most // 256))
