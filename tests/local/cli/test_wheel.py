"""The wheel, built and installed: the command and `python -m aep` run from it alone."""

import platform
import subprocess
import sys
import tarfile
from email import message_from_string
from pathlib import Path

import pytest

from aep.commit import commit
from event_platform import __version__
from support.processes import environment

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel brings; its dependencies are those of this environment."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    build = ["build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--out-dir", str(wheels)]
    subprocess.run([UV, *build, "--python", sys.executable, str(ROOT)], check=True, timeout=100)
    (wheel,) = wheels.glob("*.whl")
    install = ["pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([UV, *install, "--target", str(folder), str(wheel)], check=True, timeout=100)
    return folder


def run(installed: Path, *command: str) -> str:
    """What the command prints in an empty folder, where the packages are those of the wheel."""
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=installed.parent,
        env=environment({"PYTHONPATH": str(installed)}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_source_archive_holds_what_wheel_server_and_image_are_made_from_and_no_more(
    tmp_path: Path,
) -> None:
    build = ["build", "--quiet", "--offline", "--sdist", "--no-build-isolation", "--out-dir", str(tmp_path)]
    subprocess.run([UV, *build, "--python", sys.executable, str(ROOT)], check=True, timeout=100)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {Path(name).parts[1] for name in files.getnames()}
    made = {"PKG-INFO", ".gitignore"}
    built_from = {"functions", "local", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    image = {".dockerignore", "Containerfile", "compose.yaml", "requirements-build.txt"}
    assert names - made == built_from | image | {"deploy", "docs", "requirements-server.txt"}


def test_the_command_of_the_wheel_runs(installed: Path) -> None:
    shown = run(installed, str(installed / "bin" / "aep"), "events", "--json")
    assert "com.akeneo.pim.v1.product.updated" in shown, "the catalog comes with it"
    assert "aep COMMAND" in run(installed, str(installed / "bin" / "aep"), "--help")


def test_the_documentation_comes_with_the_wheel(installed: Path) -> None:
    show = (
        "from aep.console.documentation import rendered, titles; print(len(titles()), rendered('suspension'))"
    )
    shown = run(installed, "-c", show)
    assert shown.startswith(f"{len(list((ROOT / 'docs').glob('*.md')))} ")
    assert 'id="what-to-do"' in shown


def test_the_wheel_bears_the_version_of_the_code(installed: Path) -> None:
    assert run(installed, str(installed / "bin" / "aep"), "--version") == (
        f"aep {__version__} (commit {commit()}, Python {platform.python_version()})\n"
    )
    assert (installed / "aep" / "commit.txt").read_text() == f"{commit()}\n"
    (described,) = installed.glob("akeneo_event_platform-*.dist-info")
    assert described.name == f"akeneo_event_platform-{__version__}.dist-info"


def test_the_types_of_both_packages_come_with_the_wheel(installed: Path) -> None:
    assert [name for name in ("aep", "event_platform") if not (installed / name / "py.typed").is_file()] == []


def test_what_the_wheel_says_of_itself_is_complete(installed: Path) -> None:
    (described,) = installed.glob("akeneo_event_platform-*.dist-info")
    said = message_from_string((described / "METADATA").read_text())
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Author"] == "the contributors"
    assert said["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in said.get_all("Classifier", [])


def test_it_runs_as_a_module_too(installed: Path) -> None:
    where = run(installed, "-c", "import aep, event_platform; print(aep.__file__, event_platform.__file__)")
    assert all(file.startswith(str(installed)) for file in where.split())
    assert "aep COMMAND" in run(installed, "-m", "aep", "--help")
