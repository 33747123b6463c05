"""The errors of a wrong setup of the platform on this machine.

SetupError              the root: one line that says what to do, for standard error
├── CannotListen        the address and port cannot be had
├── ControlFailed       the platform on a folder cannot be called, or does not answer as it should
├── DataFolderInUse     another process runs the platform on this folder
├── NoStore             no platform has run on the data folder
├── StoreReplaced       a file of the store was removed or replaced while the platform ran
├── StoreDamaged        the files of the store do not belong together, or one is missing
├── BackupRefused       the backup cannot go where it was told to
├── RestoreRefused      the file is no backup of a store, or cannot be put into the folder
├── BadExport           a file to import is none, not whole, or of a newer program
├── MoveRefused         records cannot come into a store as they are, or a file is in the way
├── WrongKey            the folder's secrets were sealed with another key
│   └── MalformedKey    AEP_SECRETS_KEY holds no key
├── NothingToRotate     secrets are to be sealed with a new key, and there is none
├── BadPims             the registry of PIMs is not usable as it is
├── BadOutputs          the outputs of a stack are not usable
├── NoGooglePackages    a command for Google Cloud lacks Google's clients
└── GoogleFailed        Google Cloud refuses, or does not answer
"""

from event_platform.domain.tenants import UnusableList


class SetupError(Exception):
    """Raised when the platform cannot start as it is set up."""


class CannotListen(SetupError):
    """Raised when a port is taken, or an address is not this machine's. `why` leaves out what to do."""

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why or message


class ControlFailed(SetupError):
    """Raised when the platform that runs on a folder cannot be called, or does not answer as it should."""


class DataFolderInUse(SetupError):
    """Raised when another process already runs the platform on this folder."""


class NoStore(SetupError):
    """Raised when a command needs the store of a data folder that holds none."""


class StoreReplaced(SetupError):
    """Raised when a file of the store was removed, replaced or overwritten while the platform ran on it."""


class StoreDamaged(SetupError):
    """Raised when the database has gone or its write-ahead log is that of another one."""


class BackupRefused(SetupError):
    """Raised when a backup would replace a file, or its folder is not there."""


class RestoreRefused(SetupError):
    """Raised when a file to restore is no store, damaged or in use, or there is no room for it."""


class BadExport(SetupError):
    """Raised when a file is no export, not whole, damaged, or of a version not known to this program."""


class MoveRefused(SetupError):
    """Raised when an import meets records of the same id that differ, or a limit; or an export a file."""


class WrongKey(SetupError):
    """Raised when the encryption key is missing or not the one that the folder's secrets were sealed with."""


class MalformedKey(WrongKey):
    """Raised when AEP_SECRETS_KEY is no key: wrong usage, as any other wrong setting is."""


class NothingToRotate(SetupError):
    """Raised when a rotation would leave every secret sealed as it was."""


class BadPims(SetupError, UnusableList):
    """Raised when the list of PIMs cannot be read or an entry is wrong."""


class BadOutputs(SetupError):
    """Raised when the outputs of a stack cannot be read, or something is missing in them."""


class NoGooglePackages(SetupError):
    """Raised when a command for Google Cloud needs packages that are not installed."""


class GoogleFailed(SetupError):
    """Raised when Google Cloud refuses what a command needs, or does not answer."""
