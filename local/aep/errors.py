"""What can be wrong with how the platform is set up on this machine.

SetupError              the root: one line that says what to do, for standard error
├── DataFolderInUse     another process runs the platform on this folder
├── WrongKey            the folder's secrets were sealed with another key
└── BadPims             the registry of PIMs is not usable as it is
"""


class SetupError(Exception):
    """Raised when the platform cannot start as it is set up."""


class DataFolderInUse(SetupError):
    """Raised when another process already runs the platform on this folder."""


class WrongKey(SetupError):
    """Raised when the encryption key is missing or not the one that the folder's secrets were sealed with."""


class BadPims(SetupError):
    """Raised when the list of PIMs cannot be read or an entry is wrong."""
