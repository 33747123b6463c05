"""Whatever comes: settings of hypothesis for tests that put anything into a parser.

`AEP_TEST_FUZZ_CASES` is the number of cases; unless it is set they are few, and always the same ones.
"""

import os

from hypothesis import HealthCheck, settings

FEW = 150
CASES = int(os.environ.get("AEP_TEST_FUZZ_CASES", FEW))


def fuzzed(cases: int = CASES) -> settings:
    """For so many cases."""
    return settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=CASES <= FEW,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
