"""The event platform's functions: a package per function, the domain they share, the ports they need."""

__version__ = "0.2.0"
"""The version of all that is here, and the one place to raise it (docs/contributing/releasing.md)."""

USER_AGENT = f"akeneo-event-platform/{__version__}"
"""The sender that our requests name. Deliveries and notifications name the one of the contract instead."""
