"""The simulated receivers get what they allow (the figures of docs/throughput.md)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _simulation() -> ModuleType:
    """By its path: the bench is no part of what is installed."""
    path = Path(__file__).resolve().parents[2] / "bench" / "throughput.py"
    spec = importlib.util.spec_from_file_location("throughput_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


throughput = _simulation()


CASES = [
    pytest.param(case, id=f"{case.name}, {case.instances}", marks=[pytest.mark.full] if index % 3 else [])
    for index, case in enumerate(throughput.cases())
]


@pytest.mark.parametrize("case", CASES)
def test_a_receiver_gets_what_it_allows_and_few_429s(case: object) -> None:
    assert throughput.row(throughput.simulate(case)).faults() == []


def test_fifty_instances_that_see_a_429_at_once_lower_the_rate_once() -> None:
    assert throughput.lowered_at_once(50) == 1
