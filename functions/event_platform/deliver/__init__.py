"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver

__all__ = ["deliver"]
