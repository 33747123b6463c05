"""The entry point of the command, before its imports are done."""

import subprocess
import sys

from support.processes import environment

INTERRUPTED = """
import os, signal, sys
from aep.__main__ import main

class Interrupting:
    def find_spec(self, name, *_):
        if name == "aep.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
main()
"""


def test_ctrl_c_during_the_imports_ends_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
