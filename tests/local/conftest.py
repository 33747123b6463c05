"""After all tests of this folder: no log that a command of theirs wrote holds a secret or a payload."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMES_A_SECRET = re.compile(r"(^|_)(KEY|SECRET|PRIMARY|SECONDARY|TOKEN|PASSWORD)S?$")
OF_THE_SIMULATOR = {"demo-secret", "demo-password"}
OF_PAYLOADS = ('"specversion"', '\\"specversion', '"author"', '\\"author')


@pytest.fixture(scope="session", autouse=True)
def no_log_of_the_run_holds_a_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield
    forbidden = {*secrets_of_tests(), *OF_THE_SIMULATOR, *OF_PAYLOADS}
    logs = list(tmp_path_factory.getbasetemp().glob("**/*.err"))
    found = {(log, text) for log in logs for text in forbidden if text in log.read_text(errors="replace")}
    assert not found


def secrets_of_tests() -> set[str]:
    """What the modules of the tests that ran call a key, a secret or a token, or several of them."""
    named = [
        value
        for module in list(sys.modules.values())
        if TESTS in Path(getattr(module, "__file__", None) or "/").parents
        for name, value in vars(module).items()
        if NAMES_A_SECRET.search(name)
    ]
    values = [one for value in named for one in (value.values() if isinstance(value, dict) else [value])]
    return {value for value in values if isinstance(value, str) and len(value) > 8}
