"""The function `manage`: the management API (contract/wire.md 1 to 6 and 8) and the event schemas."""

from .routes import routes
from .services import Manage

__all__ = ["Manage", "routes"]
