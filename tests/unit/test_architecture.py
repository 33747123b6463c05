"""Dependencies point one way: main → wiring → adapters → ports → domain, and aep → event_platform."""

import ast
from collections.abc import Iterator
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
FUNCTIONS, LOCAL = ROOT / "functions" / "event_platform", ROOT / "local" / "aep"
COMPOSING = (LOCAL / "wiring.py", LOCAL / "cli")


def test_imports_keep_the_contracts_of_pyproject() -> None:
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


def test_an_interface_outside_of_ports_is_used_in_its_own_room_only() -> None:
    modules = {
        path: ast.parse(path.read_text()) for root in (FUNCTIONS, LOCAL) for path in root.rglob("*.py")
    }
    interfaces = {
        (path, name)
        for path, tree in modules.items()
        if path != FUNCTIONS / "ports.py" and not path.is_relative_to(FUNCTIONS / "domain")
        for name in protocols_in(tree)
    }
    used = {
        (str(path.relative_to(ROOT)), name)
        for path, tree in modules.items()
        for module, name in imported_by(tree)
        for defined, of in interfaces
        if (defined.stem, of) == (module, name)
        and path.parent != defined.parent
        and not any(path.is_relative_to(each) for each in COMPOSING)
    }
    assert len(interfaces) > 5
    assert used == set()


def protocols_in(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
            if "Protocol" in bases:
                yield node.name


def imported_by(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields the last part of the module's name, and the name that is imported from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (((node.module or "").rpartition(".")[2], each.name) for each in node.names)
