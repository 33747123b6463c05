"""Facts from /proc: time and memory of processes, how busy the machine was, and which machine it is."""

import os
import platform as python_platform
import subprocess
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
ENDED = FileNotFoundError, ProcessLookupError
"""The errors of reading about a process that has ended meanwhile."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu: float  # seconds, with those of its children that have ended


def tree(root: int) -> list[int]:
    """Returns the process and all below it."""
    return [process.pid for process in _tree(root)]


def cpu_seconds(root: int) -> float:
    """Returns user and system time of the process and all below it, ended children included."""
    return sum(process.cpu for process in _tree(root))


def pss_mb(root: int) -> float:
    """Returns the proportional set size of the process and all below it, in megabytes (10⁶ bytes)."""
    kilobytes = 0
    for pid in tree(root):
        with suppress(*ENDED):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def highest_resident_mb(pid: int) -> float:
    """Returns the most memory that a process had resident, in megabytes; 0 once it has ended."""
    with suppress(*ENDED):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def descriptors(root: int) -> int:
    """Returns the number of descriptors that the process and all below it have open."""
    opened = 0
    for pid in tree(root):
        with suppress(*ENDED):
            opened += len(list((PROC / str(pid) / "fd").iterdir()))
    return opened


class Disturbance:
    """The number of cores that others kept busy since it was made: all but this process and those below
    it.
    """

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float:
        moment, busy, ours = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return max(0.0, (busy - ours) / moment)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.monotonic(), _busy_seconds(), cpu_seconds(os.getpid())


def _busy_seconds() -> float:
    """Returns the busy seconds of all cores: user, nice, system, irq, softirq and the hypervisor."""
    fields = [int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS


def _tree(root: int) -> list[_Process]:
    children: defaultdict[int, list[_Process]] = defaultdict(list)
    found: list[_Process] = []
    for path in PROC.iterdir():
        if path.name.isdigit() and (process := _process(int(path.name))) is not None:
            children[process.parent].append(process)
            if process.pid == root:
                found.append(process)
    for process in found:  # grows while it is walked
        found += children[process.pid]
    return found


def _process(pid: int) -> _Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except ENDED:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may hold anything
    return _Process(pid, int(fields[1]), sum(map(int, fields[11:15])) / TICKS)


def facts(folder: Path) -> dict[str, Any]:
    """Returns the machine, the interpreter, the source, and the file system of the data folder."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": python_platform.release(),
        "python": python_platform.python_version(),
        "file_system": _file_system(folder),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        **source(),
    }


def source() -> dict[str, Any]:
    """Returns the commit, and whether the files differ from it; both unknown outside a checkout."""
    commit = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    return {"commit": commit, "changed": bool(_git("status", "--porcelain", "--", "functions", "local"))}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - constant arguments
            ["git", *arguments],  # noqa: S607 - that of the user
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent.parent,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return python_platform.machine()


def _file_system(folder: Path) -> str:
    """Returns the file system of the longest mount point above the folder. On tmpfs a sync costs nothing."""
    resolved = folder.resolve()
    best, kind = Path("/"), "unknown"
    for line in (PROC / "mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        mount = Path(point)
        if resolved.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, found
    return kind
