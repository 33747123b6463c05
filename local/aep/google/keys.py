"""The two keys of a project, for commands of its operator."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from event_platform.adapters.seal import SplitSeal

from ..output import fail
from ..store.keys import configured


class _Keys(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True)

    secrets_key: SecretStr | None = None
    registry_key: SecretStr | None = None


def load() -> SplitSeal:
    """The seal with both keys; ends the command when one is missing. Raises MalformedKey."""
    keys = _Keys()
    if keys.secrets_key is None or keys.registry_key is None:
        fail(
            "--google needs AEP_SECRETS_KEY and AEP_REGISTRY_KEY: the keys of its functions, in each a comma"
            " before any older one"
        )
    return SplitSeal(configured(keys.secrets_key), configured(keys.registry_key, variable="AEP_REGISTRY_KEY"))
