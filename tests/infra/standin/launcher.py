"""The command by which the Pulumi CLI finds the stand-in on PATH."""

import shlex
import sys
from pathlib import Path

COMMAND = "pulumi-resource-gcp"


def install(folder: Path) -> Path:
    """Writes the command into a folder for PATH, ahead of Google's provider, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / COMMAND
    here, python = (shlex.quote(path) for path in (str(Path(__file__).parents[1]), sys.executable))
    command.write_text(f'#!/bin/sh\nPYTHONPATH={here} exec {python} -P -m standin "$@"\n')
    command.chmod(0o755)
    return folder
