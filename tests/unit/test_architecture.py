"""Dependencies point one way: main → wiring → adapters → ports → domain, and aep → event_platform."""

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_imports_keep_the_contracts_of_pyproject() -> None:
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS
