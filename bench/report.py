"""The report of the bench: medians, a table, and a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.table import Table

from .figures import Aim, Case, Figure


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case. `other_cores` is how many cores others kept busy meanwhile."""

    case: str
    number: int
    seconds: float
    other_cores: float
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over all runs of its case. `reached` says whether the median reaches the aim."""

    case: str
    name: str
    unit: str
    aim: Aim | None
    reached: bool | None
    is_shown: bool
    median: float
    lowest: float
    highest: float


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """Returns summaries by case and figure, in the order in which they were measured first."""
    grouped: dict[tuple[str, str], list[Figure]] = {}
    for run in runs:
        for figure in (*run.figures, Figure("kept busy by others", run.other_cores, "cores")):
            grouped.setdefault((run.case, figure.name), []).append(figure)
    return [_summary(case, figures) for (case, _), figures in grouped.items()]


def table(cases: Sequence[Case], runs: Sequence[Run]) -> Table:
    """Returns the table for the screen."""
    number = max(run.number for run in runs)
    shown = Table(title=f"Medians of {number} runs" if number > 1 else "One run", title_justify="left")
    shown.add_column("Case")  # the only one that a narrow screen may wrap
    shown.add_column("Median", justify="right", no_wrap=True)
    shown.add_column("Unit", no_wrap=True)
    shown.add_column("Lowest – highest", justify="right", no_wrap=True)
    shown.add_column("Aim", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    found = summaries(runs)
    for case in cases:
        shown.add_row(f"[bold]{case.name}[/]: {case.title}")
        for each in (summary for summary in found if summary.case == case.name and summary.is_shown):
            spread = f"{_text(each.lowest)} – {_text(each.highest)}" if number > 1 else ""
            shown.add_row(f"  {each.name}", _text(each.median), each.unit, spread, *_aim(each))
        shown.add_section()
    return shown


def document(
    at: datetime, machine: dict[str, Any], settings: dict[str, Any], runs: Sequence[Run]
) -> dict[str, Any]:
    """Returns the document for the file."""
    return {
        "at": at.isoformat(timespec="seconds"),
        "machine": machine,
        "settings": settings,
        "medians": summaries(runs),
        "runs": list(runs),
    }


def write(folder: Path, at: datetime, found: dict[str, Any]) -> Path:
    """Writes the file, named after the moment in UTC and the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{at:%Y-%m-%dT%H%M%SZ}-{found['machine']['commit']}.json"
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def _summary(case: str, figures: list[Figure]) -> Summary:
    first, values = figures[0], [figure.value for figure in figures]
    middle, aim = median(values), first.aim
    if aim is not None:  # that of a figure beside its floor has another bound in each run
        aim = replace(aim, bound=median(figure.aim.bound for figure in figures if figure.aim))
    reached = None if aim is None else aim.is_reached_by(middle)
    low, high = min(values), max(values)
    return Summary(case, first.name, first.unit, aim, reached, first.is_shown, middle, low, high)


def _aim(summary: Summary) -> tuple[str, str]:
    if summary.aim is None:
        return "", ""
    return str(summary.aim), "[green]reached[/]" if summary.reached else "[bold red]missed[/]"


def _text(value: float) -> str:
    """Returns the value with three significant figures."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
