"""The command line of the bench: `python -m bench`, `make bench`, `aep bench`."""

import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from . import cases, machine, report
from .errors import BenchFailed, LeftOut
from .figures import CASES, Case
from .measuring import Bench, Options, bench
from .report import Run
from .speeds import speeds

RESULTS = Path(__file__).parent / "results"
DEFAULT = Options()
TABLE_WIDTH = 120
assert cases.__all__  # noqa: S101 - their import registers them


def main(
    names: Annotated[
        list[str] | None, typer.Option("--case", help=f"Only this one, repeatable: {', '.join(CASES)}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="How often each case is measured.")] = 5,
    events: Annotated[int, typer.Option(min=1, help="Events of a burst.")] = DEFAULT.events,
    size: Annotated[int, typer.Option(min=256, help="Bytes of an event as it is published.")] = DEFAULT.size,
    connections: Annotated[int, typer.Option(min=1, help="That publish a burst.")] = DEFAULT.connections,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Of the paced case, at 200 events a second.")
    ] = DEFAULT.paced_seconds,
    idle: Annotated[float, typer.Option(min=0.1, help="Seconds of idling.")] = DEFAULT.idle_seconds,
    backlog: Annotated[
        int, typer.Option(min=1000, help="Deliveries that wait in the case of that name.")
    ] = DEFAULT.backlog,
    log_entries: Annotated[
        int, typer.Option(min=50_000, help="Entries of the log in the case of that name.")
    ] = DEFAULT.log_entries,
    replayed: Annotated[
        int, typer.Option(min=1, help="Events that are sent again in the case of a replay.")
    ] = DEFAULT.replayed,
    changed: Annotated[
        int, typer.Option(min=100, help="Products that have changed in the case of a feed.")
    ] = DEFAULT.changed,
    kept: Annotated[
        int, typer.Option(min=1000, help="Kept deliveries in the case of traces.")
    ] = DEFAULT.kept,
    soak: Annotated[
        float | None, typer.Option(min=1, help="Seconds of a soak; 600, and 900 of the one with faults.")
    ] = DEFAULT.soak_seconds,
    seed: Annotated[int, typer.Option(help="Of what a soak leaves to chance.")] = DEFAULT.seed,
    whole: Annotated[
        bool, typer.Option("--whole", help="The cases of growth at their whole sizes, which take minutes.")
    ] = False,
    log_level: Annotated[
        str | None, typer.Option(help="AEP_LOG_LEVEL of the platform; its default unless given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="--workers of the platform; its default unless given.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--data-in", help="Where data folders are made; the system's for such.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="Write a flame graph of one case (.svg) or folded stacks; needs py-spy."),
    ] = None,
    py_spy: Annotated[str, typer.Option(help="The py-spy to use.")] = DEFAULT.py_spy,
    results: Annotated[Path, typer.Option(help="Where the file with the figures goes.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the file holds, no table.")] = False,
    fault: Annotated[str | None, typer.Option(hidden=True)] = None,
    patience: Annotated[float, typer.Option(hidden=True)] = DEFAULT.patience,
) -> None:
    """Measure the platform on this machine, from outside, as a user runs it.

    Example: python -m bench --case burst --case client --runs 5

    Exit status 1 when an event was lost, refused or wrongly signed: then there are no figures.
    """
    chosen = _chosen(names)
    options = replace(
        DEFAULT,
        events=events,
        size=size,
        connections=connections,
        paced_seconds=seconds,
        idle_seconds=idle,
        backlog=backlog,
        log_entries=log_entries,
        replayed=replayed,
        changed=changed,
        kept=kept,
        soak_seconds=soak,
        seed=seed,
        whole=whole,
        log_level=log_level,
        workers=workers,
        folder=folder,
        profile=profile,
        py_spy=py_spy,
        fault=fault,
        patience=patience,
    )
    if profile is not None and (len(chosen) > 1 or runs > 1):
        _fail("--profile takes one --case and --runs 1", 2)
    at = datetime.now(UTC)
    data = folder or Path(tempfile.gettempdir())
    facts = {**machine.facts(data), **speeds(data)}
    measured: list[Run] = []
    try:
        with bench(options) as context:
            for number in range(1, runs + 1):  # cases inside runs: a disturbance hits all of them alike
                measured += [run for case in chosen if (run := _measure(context, case, number)) is not None]
    except BenchFailed as failure:
        _fail(str(failure), 1)
    if not measured:
        _fail("nothing was measured", 1)
    found = report.document(at, facts, _settings(options, runs), measured)
    if as_json:
        typer.echo(orjson.dumps(found))
        return
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(report.table(chosen, measured))
    if profile is not None:  # what is sampled is slower: no figures to keep
        typer.echo(f"profile: {profile}")
        return
    typer.echo(f"{facts['cpu']}, {facts['cores']} cores, load average {facts['load_average'][0]} before it")
    typer.echo(
        f"Python {facts['python']}: {facts['python_loop_us']:.3f} µs a round of a loop; system calls "
        f"{facts['system_calls_us']:.1f} µs a pair; waking a process {facts['process_switch_us']:.1f} µs; "
        f"fdatasync {facts['fdatasync_us']:.0f} µs"
    )
    typer.echo(f"written: {report.write(results, at, found)}")


def _chosen(names: list[str] | None) -> list[Case]:
    for name in names or ():
        if name not in CASES:
            _fail(f"unknown case {name}: there are {', '.join(CASES)}", 2)
    return [case for case in CASES.values() if (case.name in names if names else case.by_default)]


def _measure(context: Bench, case: Case, number: int) -> Run | None:
    disturbance, started = machine.Disturbance(), time.monotonic()
    try:
        figures = case.measure(context)
    except LeftOut as missing:
        typer.echo(f"run {number}  {case.name}  left out: {missing}", err=True)
        return None
    seconds = round(time.monotonic() - started, 2)
    others = round(disturbance.cores(), 2)
    typer.echo(f"run {number}  {case.name}  {seconds:.0f} s, others kept {others:.2f} cores busy", err=True)
    return Run(case.name, number, seconds, others, figures)


def _settings(options: Options, runs: int) -> dict[str, Any]:
    return {
        "runs": runs,
        "events": options.events,
        "size": options.size,
        "connections": options.connections,
        "paced_rate": options.paced_rate,
        "paced_seconds": options.paced_seconds,
        "idle_seconds": options.idle_seconds,
        "backlog": options.backlog,
        "log_entries": options.log_entries,
        "replayed": options.replayed,
        "changed": options.changed,
        "kept": options.kept,
        "soak_seconds": options.soak_seconds,
        "seed": options.seed,
        "whole": options.whole,
        "log_level": options.log_level,
        "workers": options.workers,
    }


def _fail(message: str, status: int) -> None:
    typer.echo(f"bench: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    typer.run(main)
