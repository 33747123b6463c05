"""The wall clock that tests and the bench move under a running process."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.components import require

sys.path.append(str(Path(__file__).parents[2]))  # the bench is not installed with the packages

from bench import wall_clock

DAY = 86400.0

READS = """
import json, sqlite3, sys, threading, time
for _ in sys.stdin:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=0.001)  # returns, wherever the clock is
    database = sqlite3.connect(":memory:")
    (sqlite,) = database.execute("SELECT strftime('%s', 'now')").fetchone()
    print(json.dumps([time.time(), int(sqlite), time.monotonic()]), flush=True)
"""


def test_a_process_sees_its_wall_clock_move_and_no_other_clock(tmp_path: Path) -> None:
    require("a movable wall clock", wall_clock.is_available())
    clock = wall_clock.MovableWallClock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", READS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | clock.environment,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        read: list[list[float]] = []
        for move in (0, 10 * DAY, -20 * DAY):
            clock.move(move)
            process.stdin.write("\n")
            process.stdin.flush()
            read.append(json.loads(process.stdout.readline()))
        process.stdin.close()
    here, ahead, behind = read
    for each in (0, 1):
        assert abs(ahead[each] - here[each] - 10 * DAY) < DAY
        assert abs(behind[each] - here[each] + 10 * DAY) < DAY
    assert here[2] <= ahead[2] <= behind[2] < here[2] + DAY
