"""What is deployed is what the lock names."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = REPOSITORY / "functions" / "requirements.txt"


def test_the_requirements_of_the_functions_are_those_of_the_lock() -> None:
    command = re.search(
        r"\$\(BIN\)/uv (export(?:.*\\\n)*.*)--output-file", (REPOSITORY / "Makefile").read_text()
    )
    assert command is not None
    exported = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), *command[1].replace("\\\n", " ").split()],
        cwd=REPOSITORY,
        env={**os.environ, "UV_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stderr
    assert REQUIREMENTS.read_text() == exported.stdout, "run `make requirements`"
