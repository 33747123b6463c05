"""The rule for failures of our own code: another try after a growing pause, and in the end a dead letter."""

FAULTS_AT_MOST = 100
"""The failures of our own code on one message, after which it becomes a dead letter."""
LONGEST_BACKOFF_SECONDS = 60.0

_DOUBLINGS_AT_MOST = 10
"""Far more than LONGEST_BACKOFF_SECONDS needs; a power of any number of failures would overflow."""


def backoff_seconds(faults: int) -> float:
    """Returns the seconds until the next try after so many failures: 1, 2, 4 … 60."""
    return min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(faults - 1, _DOUBLINGS_AT_MOST))
