"""A disk and a resolv.conf of a platform's own, which can be full, frozen and gone. Linux only.

`Mounts` is the side of the bench. The worker runs in a mount namespace, where platforms are started too. Its
order: {disk, megabytes, folder}. It says {"not_frozen"}: why the disk cannot be frozen, or null; or
{"failed"}: why nothing can be mounted. Further orders are a fault and its seconds; it answers when that is
over.
"""

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .errors import LeftOut
from .workers import Worker, hear, say

MEGABYTES = 512
"""The size of the disk: a data folder and the backlog of all faults need a part of it."""
UNSHARE = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])
"""The command that makes the namespace.

Root may mount a block device, which can be frozen; others only memory.
"""
FULL, FROZEN, NO_NAMES = "full", "frozen", "no names"
RESOLV_CONF = "/etc/resolv.conf"
_LEAST_BYTES = 512  # that are looked for when a disk is filled
_TYPE_A = b"\0\1"
_THIS_MACHINE = b"\xc0\x0c" + _TYPE_A + b"\0\1" + b"\0\0\0\1" + b"\0\4" + bytes([127, 0, 0, 1])  # for 1 s


class Mounts:
    """Mounts a disk at a folder, and a resolv.conf whose nameserver knows every name as 127.0.0.1.

    Raises LeftOut where this machine does not allow it. Use as a context manager.
    """

    def __init__(self, disk: Path, *, megabytes: int = MEGABYTES) -> None:
        unshare = next((command for command in UNSHARE if _fails([*command, "true"]) is None), None)
        if unshare is None:
            raise LeftOut(f"no mount namespace: {_fails([*UNSHARE[-1], 'true'])}")
        disk.mkdir(exist_ok=True)
        order = {"disk": str(disk), "megabytes": megabytes, "folder": str(disk.parent)}
        self._worker = Worker("bench.mounts", order, within=unshare)
        user = ["--user", "--preserve-credentials"] if "--map-root-user" in unshare else []
        self.within: Sequence[str] = ["nsenter", f"--target={self._worker.pid}", *user, "--mount", "--"]
        """The command that starts a process in the namespace."""
        self.disk = Path(f"/proc/{self._worker.pid}/root") / disk.resolve().relative_to("/")
        """The disk as it is seen from outside of the namespace."""
        started = self._worker.answer()
        if (why := started.get("failed")) is not None:
            self.close()
            raise LeftOut(f"no mount: {why}")
        self.not_frozen: str | None = started["not_frozen"]
        """The reason why the disk cannot be frozen; None if it can."""

    def __enter__(self) -> "Mounts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._worker.__exit__(None, None, None)

    @contextmanager
    def broken(self, fault: str, seconds: float) -> Iterator[None]:
        """Begins the fault, and waits after the block until its seconds are over."""
        self._worker.send([fault, seconds])
        yield
        self._worker.answer(within=60 + seconds)


def _fails(command: Sequence[str]) -> str | None:
    """Runs the command; returns the line that says why it failed, if it did."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constants
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    return None if done.returncode == 0 else (done.stderr.splitlines() or [f"status {done.returncode}"])[0]


class _Nameserver:
    """A nameserver that gives this machine's address for every name, until it is `silent`."""

    def __init__(self) -> None:
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def line(self) -> str:
        """The nameserver's line of a resolv.conf."""
        host, port = self._socket.getsockname()
        return f"nameserver [{host}]:{port}\n"

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not self.silent:
                self._socket.sendto(_dns_answer(query), client)


def _dns_answer(query: bytes) -> bytes:
    """Returns the answer to a query with one question (RFC 1035 4.1): 127.0.0.1 for IPv4, else nothing."""
    end = query.index(b"\0", 12) + 5
    found = _THIS_MACHINE if query[end - 4 : end - 2] == _TYPE_A else b""
    counts = b"\0\1" + (b"\0\1" if found else b"\0\0") + bytes(4)
    return query[:2] + b"\x81\x80" + counts + query[12:end] + found


class _Machine:
    """The worker's side."""

    def __init__(self, disk: Path, megabytes: int, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self.not_frozen = self._mount_disk(megabytes)
        self._names = _Nameserver()
        self._put_resolv_conf()

    def _mount_disk(self, megabytes: int) -> str | None:
        """Mounts a block device, or else memory. Returns why it is no block device."""
        image = self._folder / "disk.image"
        with image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        why = _fails(["mkfs.ext4", "-q", "-m", "0", str(image)]) or _fails(
            ["mount", "-o", "loop", str(image), str(self._disk)]
        )
        if why is None:
            (self._disk / "lost+found").rmdir()
            return None if shutil.which("fsfreeze") else "fsfreeze is not installed"
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "none", str(self._disk))
        return f"no block device: {why}"

    def _put_resolv_conf(self) -> None:
        """Puts a new file each time, as a change of networks does."""
        file = self._folder / f"resolv-{time.monotonic_ns()}.conf"
        file.write_text(self._names.line())
        _mount("--bind", str(file), RESOLV_CONF)

    def full(self, seconds: float) -> None:
        filler = self._disk / "filler"
        with filler.open("wb") as file:
            taken, step = 0, shutil.disk_usage(self._disk).free
            while step >= _LEAST_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), taken, step)
                    taken += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        time.sleep(seconds)
        filler.unlink()

    def frozen(self, seconds: float) -> None:
        """Freezes the disk, by a process of its own that thaws it even if this one ends."""
        script = 'fsfreeze --freeze "$0" && { sleep "$1"; fsfreeze --unfreeze "$0"; }'
        command = ["sh", "-c", script, str(self._disk), str(seconds)]
        subprocess.run(command, check=True, start_new_session=True)  # noqa: S603 - constant

    def no_names(self, seconds: float) -> None:
        """Stops the nameserver; another one starts, which a new resolv.conf names."""
        self._names.silent = True
        time.sleep(seconds)
        self._names = _Nameserver()
        self._put_resolv_conf()


def _mount(*arguments: str) -> None:
    """Mounts a file system. Raises OSError."""
    if (why := _fails(["mount", *arguments])) is not None:
        raise OSError(why)


def _main() -> None:
    order = hear()
    try:
        machine = _Machine(Path(order["disk"]), order["megabytes"], Path(order["folder"]))
    except OSError as error:
        say({"failed": str(error)})
        sys.exit()
    say({"not_frozen": machine.not_frozen})
    faults = {FULL: machine.full, FROZEN: machine.frozen, NO_NAMES: machine.no_names}
    while True:
        fault, seconds = hear()
        faults[fault](seconds)
        say("over")


if __name__ == "__main__":
    _main()
