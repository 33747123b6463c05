"""What ends the bench."""


class BenchFailed(Exception):
    """Raised when figures would mean nothing: a child died, an event was lost, refused or wrongly signed."""
