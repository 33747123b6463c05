"""Jobs of the writer: those that wait, and which of them share a commit or a call."""

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")
Job = Callable[[sqlite3.Connection], Result]
JointJob = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]
"""A job for several items at once; it returns a result for each, in their order."""

JOBS_PER_COMMIT = 1000
GIVING_WAY_PER_COMMIT = 256
"""The number of jobs that give way in a commit, by their weight.

They change pages all over the file, which take long to write. The next commit takes whatever came meanwhile.
"""
BUSY_JOBS = 8
"""The number of jobs in a commit from which on the writer rests after it."""
WEIGHT_AT_ONCE = 256
"""The weight of the items that one call of a joint job gets."""


@dataclass(slots=True)
class Entry(Generic[Result]):
    job: JointJob[Any, Result]
    item: Any
    future: "asyncio.Future[Result]"
    on_commit: Callable[[Result], None] | None
    joint: bool = False
    weight: int = 1
    gives_way: bool = False
    tenant: str | None = None
    result: Result | None = None
    error: BaseException | None = None

    @property
    def jobs(self) -> int:
        """The number of jobs that it counts for: what gives way is often many small ones in one item."""
        return self.weight if self.gives_way else 1


@dataclass(slots=True)
class Backlog:
    """The jobs that were submitted and are not committed yet, in the order in which they are done."""

    first: deque[Entry[Any]] = field(default_factory=deque[Entry[Any]])
    later: deque[Entry[Any]] = field(default_factory=deque[Entry[Any]])
    """The jobs that give way."""
    later_jobs: int = 0
    tenants: Counter[str | None] = field(default_factory=Counter[str | None])
    """The number of jobs that give way, by tenant; None stands for work of no tenant."""
    has_held_back: bool = False
    """True if the last `take` left what gives way to the next one."""
    is_ending: bool = False
    """True if nothing more will be submitted."""

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def add(self, entries: Sequence[Entry[Any]] | None) -> None:
        """Adds what was submitted together; None is the end."""
        if entries is None:
            self.is_ending = True
            return
        for entry in entries:
            if entry.gives_way:
                self.later.append(entry)
                self.later_jobs += entry.weight
                self.tenants[entry.tenant] += 1
            else:
                self.first.append(entry)

    def take(self) -> list[Entry[Any]]:
        """Takes the jobs of the next commit.

        A crowd that gives way is left to the next commit if a tenant waits that has nothing in the crowd. It
        is left once only, so that it makes progress however many jobs come.
        """
        taken = [self.first.popleft() for _ in range(min(len(self.first), JOBS_PER_COMMIT))]
        self.has_held_back = (
            self.later_jobs >= BUSY_JOBS
            and not self.has_held_back
            and any(self.tenants[entry.tenant] == 0 for entry in taken)
        )
        room = 0 if self.has_held_back else min(GIVING_WAY_PER_COMMIT, JOBS_PER_COMMIT - len(taken))
        while self.later and room > 0:
            entry = self.later.popleft()
            room -= entry.weight
            self.later_jobs -= entry.weight
            self.tenants[entry.tenant] -= 1
            if not self.tenants[entry.tenant]:
                del self.tenants[entry.tenant]
            taken.append(entry)
        return taken

    def requeue(self, entries: Sequence[Entry[Any]]) -> None:
        """Takes back entries that were not run; they are the next."""
        for entry in reversed(entries):
            if entry.gives_way:
                self.later.appendleft(entry)
                self.later_jobs += entry.weight
                self.tenants[entry.tenant] += 1
            else:
                self.first.appendleft(entry)


def alone(connection: sqlite3.Connection, jobs: Sequence[Job[Result]]) -> Sequence[Result]:
    """Makes a joint job of `job`, which is called for one item at a time."""
    (job,) = jobs
    return (job(connection),)


def calls_of(batch: Sequence[Entry[Any]]) -> list[list[Entry[Any]]]:
    """Returns the calls that the entries need: one for all entries of a joint job, at the place of the first
    one.
    """
    calls: list[list[Entry[Any]]] = []
    open_calls: dict[Any, tuple[list[Entry[Any]], int]] = {}  # and the weight that they have so far
    for entry in batch:
        call, weight = open_calls.get(entry.job, ([], 0))
        if not entry.joint or not call or weight + entry.weight > WEIGHT_AT_ONCE:
            call, weight = [], 0
            calls.append(call)
        call.append(entry)
        if entry.joint:
            open_calls[entry.job] = (call, weight + entry.weight)
    return calls


def answer(entry: Entry[Any]) -> None:
    if entry.future.done():
        return  # the caller has gone
    if entry.error is not None:
        entry.future.set_exception(entry.error)
    else:
        entry.future.set_result(entry.result)
