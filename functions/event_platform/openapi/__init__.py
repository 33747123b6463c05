"""The OpenAPI 3.1 document of what is served, for client generators and for tests that read it."""

from .document import document, route

__all__ = ["document", "route"]
