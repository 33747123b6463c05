"""The processes that the demo and `aep dev` start; both end when one of them does."""

from collections.abc import Mapping
from pathlib import Path

from ..output import echo
from ..runtime.children import Child, ChildFailed, aep, end_all, environment

READY_SECONDS = 60
"""Far more than it takes, for machines that are slow or busy."""
STOP_SECONDS = 4


class StepFailed(Exception):
    """Raised when a step did not end as it must; `lines` are the last lines of the child concerned."""

    def __init__(self, message: str, lines: list[str] | None = None) -> None:
        super().__init__(message)
        self.lines = lines or []


def report(command: str, failure: ChildFailed | StepFailed) -> None:
    """Prints why `aep COMMAND` has failed: what a child refused in one line, else its last lines, too."""
    refused = failure.lines[-1] if failure.lines else ""
    if refused.startswith("aep: "):
        echo(f"aep {command}: {refused.removeprefix('aep: ')}", err=True)
        return
    echo(f"aep {command}: {failure}", err=True)
    for line in failure.lines:
        echo(f"  | {line}", err=True)


class Children:
    """The processes that a command started. Leaving the block stops every one of them.

    What they write goes to files in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    async def __aenter__(self) -> "Children":
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_all(self._children, seconds=STOP_SECONDS)

    async def start(self, command: str, *arguments: str, settings: Mapping[str, str] | None = None) -> str:
        """Starts `aep COMMAND …`; returns the URL of its ready line. Raises ChildFailed."""
        child = Child(
            f"aep {command}",
            aep(command, *arguments),
            stdout=self._folder / f"{command}.out",
            stderr=self.errors_of(command),
            environment=environment(settings or {}),
        )
        self._children.append(child)

        async def url() -> str | None:
            return child.ready_url()

        return await child.until(url, seconds=READY_SECONDS)

    def check(self) -> None:
        """Raises ChildFailed when a child has ended by itself."""
        for child in self._children:
            if (status := child.status) is not None:
                raise ChildFailed(f"{child.name} ended with status {status}", child.last_lines())

    def errors_of(self, command: str) -> Path:
        """Returns the file of standard error of `aep COMMAND`."""
        return self._folder / f"{command}.err"

    def last_words(self) -> list[str]:
        """Returns the last lines of standard error of the child started last, which is the platform."""
        return self._children[-1].last_lines() if self._children else []
