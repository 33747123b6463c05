"""The cases, one small function each. A new module is imported here, which registers its cases."""

from . import burst, client, paced, rest

__all__ = ["burst", "client", "paced", "rest"]
