"""Settings from the environment, read once (prefix `AEP_`)."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .domain.deliveries import DeliverPolicy
from .domain.rates import Limits


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=31 * 86400, allow_inf_nan=False)]

PerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What both ways of running the platform can be told. Times are seconds and may have fractions."""

    model_config = SettingsConfigDict(env_prefix="AEP_", frozen=True)

    pims: str | None = None  # a path, or the list itself when it begins with [
    dev: bool = False
    secrets_key: SecretStr | None = None
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None = None
    retry_delays: Annotated[tuple[Seconds, ...], NoDecode, BeforeValidator(_split)] = (300, 600, 1200)
    rate_min: PerSecond = 1
    rate_max: PerSecond = 100
    timeout: Seconds = 5
    max_age: Seconds = 3 * 86400
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    def deliver_policy(self) -> DeliverPolicy:
        """The part of the settings that decides about attempts."""
        return DeliverPolicy(
            retry_delays=[timedelta(seconds=delay) for delay in self.retry_delays],
            max_age=timedelta(seconds=self.max_age),
            timeout=self.timeout,
        )

    def rate_limits(self) -> Limits:
        """Between which rates a subscription's moves."""
        return Limits(self.rate_min, self.rate_max)
