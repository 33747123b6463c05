"""The view of the demo: live on a terminal, as plain lines elsewhere, and its summary."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from event_platform.domain.events import catalog
from event_platform.domain.words import counted

from .. import output
from ..output import text
from .emitting import Emitted
from .inbox import percentile

NEXT = (
    ("docs/first-subscription.md", "do the same by hand, with curl"),
    ("docs/connect-a-pim.md", "have a real PIM send its events here"),
    ("docs/run-on-one-server.md", "install it"),
)


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
        self._shortest: dict[str, Any] | None = None
        self._started = time.monotonic()

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
        if taken and (self._shortest is None or len(received["body"]) < len(self._shortest["body"])):
            self._shortest = received
        if taken and received["attempt"] == 1 and received["latency_ms"] is not None:
            self._latencies.append(received["latency_ms"])
        self._recent.append(received)

    def one_delivery(self) -> RenderableType:
        """Returns the shortest delivery as the receiver got it: request line, headers, body."""
        if self._shortest is None:
            return text("")
        headers = [
            text(f"{name}: ", "cyan").append_text(text(value, "green" if "signature" in name else "default"))
            for name, value in self._shortest["headers"].items()
        ]
        body = output.to_json(orjson.loads(self._shortest["body"]), indent=True)
        return Group(
            text(""),
            text("One delivery, as the receiver got it", "bold"),
            text(f"POST {self._shortest['path']} HTTP/1.1"),
            *headers,
            *map(text, ("", *body.split("\n"), "")),
            text("The signatures are HMACs of the body: the receiver made the same.", "dim"),
            text(""),
        )

    def next_steps(self) -> RenderableType:
        """Returns what to read after the demo."""
        steps = Table.grid(padding=(0, 2))
        for page, what in NEXT:
            steps.add_row(text(f"  {page}", "cyan"), text(what))
        return Group(text(""), text("Next:", "bold"), steps)

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
        for is_whole in (True, True, False, True, True):  # an id is never cut, rather the type before it
            deliveries.add_column(no_wrap=is_whole)
        for received in self._recent:
            style = "green" if received["status"] == 200 else "yellow"
            latency = f"{received['latency_ms'] or 0:.0f} ms"
            kind = str(received["type"]).removeprefix(catalog.AKENEO)
            cells = (received["path"], kind, str(received["id"]), latency)
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
            f"{counts['retried']} retried · latency {self._latency()}"
        )

    def _latency(self) -> str:
        p50, p99 = percentile(self._latencies, 50), percentile(self._latencies, 99)
        return "-" if p50 is None or p99 is None else f"{p50:.0f} / {p99:.0f} ms"
