"""The keys of a project, for commands of its operator."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from event_platform.adapters.seal import AesGcmSeal, SplitSeal

from ..output import fail
from ..store.keys import configured


class _Keys(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True)

    secrets_key: SecretStr | None = None
    registry_key: SecretStr | None = None
    feed_key: SecretStr | None = None


def load() -> SplitSeal:
    """Returns the seal with all keys; ends the command when one but that of feeds is missing.

    Raises MalformedKey.
    """
    keys = _Keys()
    if keys.secrets_key is None or keys.registry_key is None:
        fail(
            "--google needs AEP_SECRETS_KEY and AEP_REGISTRY_KEY: the keys of its functions, in each a comma"
            " before any older one"
        )
    feeds = None if keys.feed_key is None else _feed_seal(keys.feed_key)
    return SplitSeal(configured(keys.secrets_key), _registry_seal(keys.registry_key), feeds)


def load_registry() -> AesGcmSeal:
    """Returns the seal of the registry alone; ends the command when its key is missing.

    Raises MalformedKey.
    """
    seal = registry_seal()
    if seal is None:
        fail(
            "with --google new secrets are sealed with AEP_REGISTRY_KEY: set it to the stack's key, as by"
            ' export AEP_REGISTRY_KEY="$(pulumi -C infra config get registryKey)"'
        )
    return seal


def registry_seal() -> AesGcmSeal | None:
    """Returns the seal of the registry alone; None when its key is not set. Raises MalformedKey."""
    key = _Keys().registry_key
    return None if key is None else _registry_seal(key)


def load_feed() -> AesGcmSeal:
    """Returns the seal of feeds; ends the command when its key is missing. Raises MalformedKey."""
    key = _Keys().feed_key
    if key is None:
        fail(
            "with --google the secrets of a feed are sealed with AEP_FEED_KEY: set it to the stack's key, as"
            ' by export AEP_FEED_KEY="$(pulumi -C infra config get feedKey)"'
        )
    return _feed_seal(key)


def _feed_seal(key: SecretStr) -> AesGcmSeal:
    return configured(key, variable="AEP_FEED_KEY")


def _registry_seal(key: SecretStr) -> AesGcmSeal:
    return configured(key, variable="AEP_REGISTRY_KEY")
