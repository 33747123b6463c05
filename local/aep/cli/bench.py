"""The command `aep bench`: runs the benchmark of the source checkout that this program is installed from."""

import subprocess
import sys
from pathlib import Path

import typer

from ..output import echo

ROOT = Path(__file__).resolve().parents[3]


def run_bench(context: typer.Context) -> None:
    """Measure the platform on this machine: rates, latency, CPU, memory, start-up, and the ceiling.

    Example: aep bench --case burst --runs 5

    Needs a source checkout. Arguments go to `python -m bench`, whose --help lists them; without any, every
    case is measured three times. Exit status 1 when an event was lost or wrongly signed.
    """
    if not (ROOT / "bench" / "__main__.py").is_file():
        echo(
            "aep: the benchmark is no part of the installed package: run `make bench` in a checkout", err=True
        )
        raise typer.Exit(1)
    command = [sys.executable, "-m", "bench", *context.args]
    try:
        status = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - a module of ours
    except KeyboardInterrupt:
        status = 130
    raise typer.Exit(status)
