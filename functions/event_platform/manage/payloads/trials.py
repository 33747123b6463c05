"""Bodies of tests and benchmarks (contract/wire.md 14)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ...domain import fields
from ...domain.events import json_form
from .body import Body


def _number_of(value: Any) -> Any:
    """A numeric string is a number too (contract/wire.md 14)."""
    if isinstance(value, str) and fields.fits(fields.NUMBER, value):
        return float(value)
    return value


def _short(value: Any) -> Any:
    if len(json_form.stringify(value)) > fields.MAX_CUSTOM_DATA:
        raise ValueError(f"must have at most {fields.MAX_CUSTOM_DATA // 1024} kB as JSON")
    return value


class BenchmarkBody(Body):
    """A benchmark (contract/wire.md 14); `size` is in kB of 1,024 bytes."""

    type: Literal["com.akeneo.benchmark.v1.test"]
    count: Annotated[int, Field(ge=1, le=fields.MAX_BENCHMARK_EVENTS)] = 1000
    size: Annotated[float, BeforeValidator(_number_of), Field(ge=0, le=fields.MAX_BENCHMARK_SIZE)] = 0
    custom_data: Annotated[Any, AfterValidator(_short)] = None


class TestBody(Body):
    """The example event to send; without a type, of the first one that the subscription lists."""

    __test__ = False  # no case for pytest

    type: str | None = None
