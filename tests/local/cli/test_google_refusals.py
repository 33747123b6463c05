"""The answers of commands with `--google` when Google refuses: our words and a cure, not a library's."""

import pytest
from google.api_core.exceptions import PermissionDenied
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from aep.errors import GoogleFailed
from aep.google.connection import refusals_of


@pytest.mark.parametrize(
    "error",
    [
        DefaultCredentialsError("Your default credentials were not found. To set up ADC, see https://g"),
        RefreshError("Reauthentication is needed", {"error": "invalid_grant"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_credentials_that_are_missing_or_too_old_have_one_cure(error: GoogleAuthError) -> None:
    with pytest.raises(GoogleFailed) as raised, refusals_of("Firestore of p"):
        raise error
    assert str(raised.value) == (
        "there are no good credentials of Google's here: `gcloud auth application-default login` makes some"
    )


def test_what_google_says_is_one_line_after_the_service() -> None:
    with pytest.raises(GoogleFailed) as raised, refusals_of("Firestore of p"):
        raise PermissionDenied("Missing or insufficient permissions.\nmore")
    assert str(raised.value) == "Firestore of p cannot be used: 403 Missing or insufficient permissions."
