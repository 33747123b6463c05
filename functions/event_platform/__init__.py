"""The event platform's functions: a package per function, the domain they share, the ports they need."""

__version__ = "0.1.0"
