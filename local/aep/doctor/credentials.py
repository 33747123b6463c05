"""The credentials of a client and of a PIM from the environment, which allow further checks."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Credentials(BaseSettings):
    """The credentials that checks call with, and the URL of ingest."""

    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True)

    ingest_url: str | None = None
    ingest_key: SecretStr | None = None
    pim_url: str | None = None
    pim_client_id: str | None = None
    pim_token: SecretStr | None = None

    def triple(self) -> dict[str, str] | None:
        """The headers of a client of the management API; None when one is missing."""
        if self.pim_url is None or self.pim_client_id is None or self.pim_token is None:
            return None
        return {
            "X-PIM-URL": self.pim_url,
            "X-PIM-CLIENT-ID": self.pim_client_id,
            "X-PIM-TOKEN": self.pim_token.get_secret_value(),
        }
