"""What Google would have, in a folder: apart from the stack's state, which can be wrong about it.

A test reads there what really runs, and writes in `faults.json` what is to fail.
"""

import hashlib
import json
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .outputs import FUNCTION
from .wire import Properties

FAULTS = "faults.json"


def archive_of(function: Properties) -> str:
    """Returns the name of the archive that a function is built from."""
    return function["buildConfig"]["source"]["storageSource"]["object"]


@dataclass(slots=True)
class Made:
    """A resource that exists at Google. `inputs` is what the last call that succeeded asked for."""

    token: str
    id: str
    inputs: Properties
    since: float
    """Seconds since 1970."""
    remembered: bool = True
    """False when the stack's state does not have it."""
    works: bool = True
    """False for a function that was never built: it has no service."""


class Cloud:
    """Everything that exists, one file a resource. A stack is changed by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def all(self) -> Iterator[Made]:
        """Returns each resource."""
        for file in self._folder.glob("made-*.json"):
            yield Made(**json.loads(file.read_text()))

    def find(self, token: str, identity: str) -> Made | None:
        """Returns a resource, or None if it does not exist."""
        file = self._file(token, identity)
        return Made(**json.loads(file.read_text())) if file.exists() else None

    def make(self, token: str, identity: str, inputs: Properties, **state: bool) -> None:
        """Records a resource that is created from now on."""
        self.write(Made(token, identity, inputs, time.time(), **state))

    def update(self, token: str, identity: str, inputs: Properties, changed: Collection[str]) -> None:
        """Records that arguments of a resource were changed. A function that was not built is built now."""
        made = self.find(token, identity) or Made(token, identity, inputs, time.time())
        made.inputs = {name: value for name, value in made.inputs.items() if name not in changed}
        made.inputs |= {name: value for name, value in inputs.items() if name in changed}
        made.works = made.works or "buildConfig" in changed
        self.write(made)

    def write(self, made: Made) -> None:
        """Replaces the record of a resource."""
        self._file(made.token, made.id).write_text(json.dumps(asdict(made)))

    def delete(self, token: str, identity: str) -> None:
        """Removes a resource; one that does not exist is fine."""
        self._file(token, identity).unlink(missing_ok=True)

    def archives(self) -> dict[str, str | None]:
        """Returns the archive that each function runs by the function's name; None if it was never built."""
        return {
            made.inputs["name"]: archive_of(made.inputs) if made.works else None
            for made in self.all()
            if made.token == FUNCTION
        }

    def write_plan(self, **keys: Any) -> None:
        """Writes `faults.json`, which `faults.py` describes."""
        (self._folder / FAULTS).write_text(json.dumps(keys))

    def plan(self) -> dict[str, Any]:
        """Returns what `faults.json` says."""
        file = self._folder / FAULTS
        return json.loads(file.read_text()) if file.exists() else {}

    def take_fault(self, token: str, name: str, call: str) -> dict[str, Any] | None:
        """Returns the first fault that fits a call and counts it; None if the call is to succeed."""
        with self._lock:
            plan = self.plan()
            faults = plan.get("faults", [])
            for fault in faults:
                wanted = (fault["type"], fault.get("name", name), fault.get("call", call))
                if wanted == (token.removeprefix("gcp:"), name, call):
                    break
            else:
                return None
            fault["times"] = fault.get("times", 1) - 1
            plan["faults"] = [each for each in faults if each.get("times", 1) > 0]
            self.write_plan(**plan)
            return fault

    def _file(self, token: str, identity: str) -> Path:
        return self._folder / f"made-{hashlib.sha256(f'{token} {identity}'.encode()).hexdigest()[:24]}.json"
