"""Child processes: how they are waited for, what is read of them, and that nothing of them is left."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aep.runtime.children import Child, ChildFailed, end_all, environment
from support.processes import until

LONG = 60.0
"""Seconds that nothing here takes."""
SLEEPS = "import time; time.sleep(600)"
DEAF = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready deaf", flush=True)
{SLEEPS}
"""
CLEAN = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready clean", flush=True)
{SLEEPS}
"""
WITH_A_CHILD = f"""
import subprocess, sys
print("ready", subprocess.Popen([sys.executable, "-c", {SLEEPS!r}]).pid, flush=True)
{SLEEPS}
"""


class Starter:
    """Starts programs of Python, which are ended after the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.log = folder / "child.log"
        self._stack = stack

    def start(self, program: str) -> Child:
        told, command = environment({"AEP_DEV": "true"}), [sys.executable, "-c", program]
        child = Child("the child", command, stdout=self.log, stderr=self.log, environment=told)
        self._stack.callback(child.end, seconds=0)
        return child


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    with ExitStack() as stack:
        yield Starter(tmp_path, stack)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_child_gets_the_settings_that_it_is_told_and_none_of_ours(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEP_SMTP_URL", "smtp://mail.example.com")
    monkeypatch.setenv("OTHER", "kept")
    child = starter.start("import os; print(sorted(os.environ))")
    assert child.process.wait(LONG) == 0
    assert "'AEP_DEV'" in child.stdout()
    assert "'OTHER'" in child.stdout()
    assert "AEP_SMTP_URL" not in child.stdout()
    assert "OTHER" not in environment({}, without=("OTH",))


def test_a_ready_line_is_the_childs_own_and_not_that_of_an_earlier_one(starter: Starter) -> None:
    starter.log.write_text("ready http://127.0.0.1:1\n")
    child = starter.start(f"input; print('ready http://127.0.0.1:2', flush=True); {SLEEPS}")
    assert child.wait_until(child.ready_url, seconds=LONG) == "http://127.0.0.1:2"
    assert starter.log.read_text().count("ready") == 2


def test_a_child_that_ends_before_it_is_ready_fails_with_its_last_lines(starter: Starter) -> None:
    child = starter.start("import sys; print(*range(20), sep='\\n'); sys.exit('aep: no such folder')")
    with pytest.raises(ChildFailed, match="the child ended with status 1 before it was ready") as failed:
        child.wait_until(child.ready_url, seconds=LONG)
    assert failed.value.lines[-1] == "aep: no such folder"
    assert len(failed.value.lines) == 8


async def test_a_child_that_is_not_ready_in_time_fails(starter: Starter) -> None:
    child = starter.start(SLEEPS)
    with pytest.raises(ChildFailed, match=r"the child was not ready within 0\.2 s"):
        child.wait_until(child.ready_url, seconds=0.2)

    async def never() -> bool:
        return False

    with pytest.raises(ChildFailed, match="was not ready"):
        await child.until(never, seconds=0.2)


async def test_all_end_at_once_and_one_that_ignores_sigterm_is_killed(starter: Starter) -> None:
    deaf, other = starter.start(DEAF), starter.start(SLEEPS)
    deaf.wait_until(lambda: "deaf" in starter.log.read_text(), seconds=LONG)
    await end_all([deaf, other], seconds=0.2)
    assert deaf.status == -signal.SIGKILL
    assert other.status is not None


def test_a_child_has_time_to_end_by_itself(starter: Starter) -> None:
    child = starter.start(CLEAN)
    child.wait_until(child.ready_url, seconds=LONG)
    child.end(seconds=LONG)
    assert child.status == 7


@pytest.mark.parametrize("how", ["end", "kill_group"])
def test_what_a_child_started_ends_with_it(starter: Starter, how: str) -> None:
    child = starter.start(WITH_A_CHILD)
    grandchild = int(child.wait_until(child.ready_url, seconds=LONG))
    assert is_running(grandchild)
    getattr(child, how)()
    assert child.status is not None
    until(lambda: not is_running(grandchild), "the end of the group", seconds=LONG)


def test_a_child_that_was_waited_for_is_not_signalled_again(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = starter.start("")
    assert child.process.wait(LONG) == 0
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("its number may be another process's"))
    child.end()
    child.kill_group()
