"""The Firestore of a project, for commands of its operator.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from ..errors import GoogleFailed, NoGooglePackages

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore

NO_CREDENTIALS = (
    "there are no good credentials of Google's here: `gcloud auth application-default login` makes some"
)


@asynccontextmanager
async def firestore_of(project: str) -> AsyncIterator["Firestore"]:
    """Opens the project's database for the block.

    Raises NoGooglePackages, and GoogleFailed if Google refuses a call.
    """
    try:
        from event_platform.adapters.firestore.client import connect
    except ImportError as error:
        raise NoGooglePackages(
            "--google needs Google's client of Firestore: `pip install google-cloud-firestore`"
        ) from error

    with refusals_of(f"Firestore of {project}"):
        firestore = connect(project)
        try:
            yield firestore
        finally:
            await firestore.close()


@contextmanager
def refusals_of(service: str) -> Iterator[None]:
    """Raises GoogleFailed for what Google refuses inside the block, with the name of the service."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except GoogleAuthError as error:
        raise GoogleFailed(NO_CREDENTIALS) from error
    except GoogleAPIError as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise GoogleFailed(f"{service} cannot be used: {words}") from error
