"""The table of the benchmark: medians, and which aims they reach."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.append(str(Path(__file__).parents[2]))  # the bench is not installed with the packages

from bench.figures import Aim, Case, Figure, at_least, at_most, below
from bench.report import Run, summaries, table

CASE = Case("burst", "all at once", lambda bench: [])


def runs(*values: float, aim: Aim | None) -> list[Run]:
    return [
        Run("burst", number, 1.0, 0.0, [Figure("rate", value, "/s", aim)])
        for number, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("aim", "reached", "missed", "text"),
    [
        (at_most(0.33), 0.33, 0.331, "≤ 0.33"),
        (below(300), 299.9, 300, "< 300"),
        (at_least(3800), 3800, 3799, "≥ 3,800"),
    ],
)
def test_an_aim_is_reached_or_missed(aim: Aim, reached: float, missed: float, text: str) -> None:
    assert (aim.is_reached_by(reached), aim.is_reached_by(missed), str(aim)) == (True, False, text)


def test_the_median_decides_whether_an_aim_is_reached() -> None:
    rate, _ = summaries(runs(1.0, 9.0, 3.0, aim=at_most(3)))
    assert (rate.median, rate.lowest, rate.highest, rate.reached) == (3.0, 1.0, 9.0, True)


def test_an_aim_that_differs_between_runs_is_their_median() -> None:
    measured = [*runs(5.0, aim=at_most(4)), *runs(5.0, aim=at_most(8)), *runs(5.0, aim=at_most(6))]
    rate, _ = summaries(measured)
    assert (rate.aim, rate.reached) == (at_most(6), True)


def test_a_figure_without_an_aim_is_neither() -> None:
    rate, others = summaries(runs(1.0, aim=None))
    assert (rate.reached, others.reached) == (None, None)


@pytest.mark.parametrize(("aim", "word"), [(at_least(5), "reached"), (at_least(6), "missed"), (None, "")])
def test_the_table_tells_it_beside_the_figure(aim: Aim | None, word: str) -> None:
    shown = io.StringIO()
    Console(file=shown, width=100).print(table([CASE], runs(5.0, aim=aim)))
    (row,) = [line for line in shown.getvalue().splitlines() if " rate " in line]
    assert row.rstrip("│ ").endswith(f"{aim} │ {word}" if aim else "/s")
