"""Chooses which tests run in one process when many run side by side: those of a file.

The tests of what is deployed share a process, as each process that has one of them creates both example
stacks on mocks, which takes 4 s of CPU. `test_life.py`, which runs Pulumi for minutes, is not one of them.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

DEPLOYED = "tests/infra"


class ByFile(LoadFileScheduling):
    """Hands a process a file of tests, or all files of what is deployed."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder, _, name = file.rpartition("/")
        return DEPLOYED if folder == DEPLOYED and name != "test_life.py" else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)
