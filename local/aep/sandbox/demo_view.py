"""The view of the demo: live on a terminal, as plain lines elsewhere, and its summary."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from event_platform.domain.words import counted

from ..output import text
from .inbox import percentile
from .sim import Emitted


@dataclass(slots=True)
class _Stage:
    name: str
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    failed: bool = False
    detail: str = ""


class Progress:
    """The progress of the demo, shown live on a terminal and as plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.emitted = Emitted()
        self.expected = 0
        self.counts: Counter[str] = Counter()
        self._console = console
        self._stages: list[_Stage] = []
        self._latencies: list[float] = []  # of first attempts: a retry waits on purpose
        self._recent: deque[dict[str, Any]] = deque(maxlen=5)
        self._started = time.monotonic()
        self._ticked = (self._started, "")

    @property
    def current(self) -> str:
        return self._stages[-1].name if self._stages else "start"

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(
            console=self._console, get_renderable=self._view, refresh_per_second=8, redirect_stderr=False
        ):
            yield

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """Shows a step that begins and, when nothing is raised, ends.

        Yields a function that takes its detail.
        """
        stage = _Stage(name)
        self._stages.append(stage)

        def detail(text: str) -> None:
            stage.detail = text

        try:
            yield detail
        except BaseException:
            stage.failed = True
            raise
        finally:
            stage.seconds = time.monotonic() - stage.started
            if not self._console.is_terminal:
                self._console.print(self._stage_line(stage), soft_wrap=True)

    def note(self, received: dict[str, Any]) -> None:
        """Counts one delivery that the inbox reports."""
        taken = received["status"] == 200 and not received["duplicate"]
        self.counts["delivered"] += taken
        self.counts["verified"] += taken and received["verified"] is True
        self.counts["bad signatures"] += received["verified"] is False
        self.counts["retried"] += received["attempt"] > 1 and not received["duplicate"]
        self.counts["duplicates"] += received["duplicate"]
        if taken and received["attempt"] == 1 and received["latency_ms"] is not None:
            self._latencies.append(received["latency_ms"])
        self._recent.append(received)

    def tick(self) -> None:
        """Prints the counters every two seconds where nothing is shown live."""
        when, last = self._ticked
        now, line = time.monotonic(), self._counters()
        if not self._console.is_terminal and now - when >= 2 and line != last:
            self._console.print(text(f"    {line}"), soft_wrap=True)
            self._ticked = (now, line)

    def summary(self) -> Table:
        counts = self.counts
        rows = {
            "events accepted by the platform": self.emitted.accepted,
            "deliveries due": self.expected,
            "delivered": counts["delivered"],
            "signatures verified": counts["verified"],
            "wrong signatures": counts["bad signatures"],
            "retried after a failure": counts["retried"],
            "duplicates": counts["duplicates"],
            "latency p50 / p99": self._latency(),
            "time": f"{time.monotonic() - self._started:.1f} s",
        }
        table = Table(title="Nothing was lost, every signature matched", title_style="bold green")
        table.add_column("")
        table.add_column("", justify="right")
        table.show_header = False
        for name, value in rows.items():
            table.add_row(name, str(value))
        return table

    def _view(self) -> RenderableType:
        deliveries = Table.grid(padding=(0, 2))
        for received in self._recent:
            style = "green" if received["status"] == 200 else "yellow"
            latency = f"{received['latency_ms'] or 0:.0f} ms"
            cells = (received["path"], str(received["type"]), str(received["id"]), latency)
            deliveries.add_row(text(received["status"], style), *map(text, cells))
        stages = [self._stage_line(stage) for stage in self._stages]
        view = [*stages, text(""), text(self._counters(), "bold")]
        for line in view:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*view, deliveries)

    def _stage_line(self, stage: _Stage) -> Text:
        mark, style = ("✗", "red") if stage.failed else ("✓", "green") if stage.seconds else ("…", "cyan")
        seconds = stage.seconds if stage.seconds is not None else time.monotonic() - stage.started
        parts = [text(mark, style), text(f" {stage.name}"), text(f"  {seconds:.1f} s", "dim")]
        return text("").join([*parts, text(f"  {stage.detail}", "dim")] if stage.detail else parts)

    def _counters(self) -> str:
        counts = self.counts
        return (
            f"{counted(self.emitted.accepted, 'event')} accepted · {counts['delivered']} delivered · "
            f"{counts['verified']} verified · {counts['retried']} retried · latency {self._latency()}"
        )

    def _latency(self) -> str:
        p50, p99 = percentile(self._latencies, 50), percentile(self._latencies, 99)
        return "-" if p50 is None or p99 is None else f"{p50:.0f} / {p99:.0f} ms"
