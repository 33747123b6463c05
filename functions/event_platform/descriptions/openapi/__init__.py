"""The OpenAPI 3.1 document of what is served, for client generators and for tests that read it."""

from .served import route

__all__ = ["route"]
