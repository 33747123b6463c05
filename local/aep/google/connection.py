"""The Firestore of a project, for commands of its operator.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..errors import GoogleFailed, NoGooglePackages

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore


@asynccontextmanager
async def firestore_of(project: str) -> AsyncIterator["Firestore"]:
    """Opens the project's database for the block.

    Raises NoGooglePackages, and GoogleFailed if Google refuses a call.
    """
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        from event_platform.adapters.firestore.client import connect
    except ImportError as error:
        raise NoGooglePackages(
            "--google needs Google's client of Firestore: `pip install google-cloud-firestore`"
        ) from error

    try:
        firestore = connect(project)
        try:
            yield firestore
        finally:
            await firestore.close()
    except (GoogleAPIError, GoogleAuthError) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise GoogleFailed(f"Firestore does not let us at the records of {project}: {words}") from error
