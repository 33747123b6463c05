"""The errors that end the bench."""


class LeftOut(Exception):
    """Raised by a case that this machine cannot measure; says what is missing."""


class BenchFailed(Exception):
    """Raised when figures would mean nothing: a child died, an event was lost, refused or wrongly signed."""
