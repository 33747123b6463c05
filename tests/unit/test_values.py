"""The classes of `value_object`: equal, hashable and small at run time, immutable to the type checker."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

from event_platform.domain.attempts.outcomes import Answer, Kind, Outcome
from event_platform.domain.events.event import Envelope

ROOT = Path(__file__).parents[2]


def test_equal_values_are_equal_and_have_one_hash() -> None:
    assert Envelope(b"a", b"b") == Envelope(b"a", b"b") != Envelope(b"a", b"c")
    assert hash(Outcome(Kind.DELIVERED)) == hash(Outcome(Kind.DELIVERED))


def test_they_have_slots_and_can_be_replaced() -> None:
    answer = Answer(200, {}, b"")

    assert not hasattr(answer, "__dict__")
    assert replace(answer, status=500) == Answer(500, {}, b"")
    assert [field.name for field in fields(Envelope)] == ["before_subject", "after_subject"]


def test_the_type_checker_refuses_an_assignment(tmp_path: Path) -> None:
    code = tmp_path / "assigns.py"
    code.write_text(
        "from event_platform.domain.deliveries import Delivery\n\n\n"
        "def change(delivery: Delivery) -> None:\n    delivery.attempts = 1\n"
    )
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT / "functions"}"]}}')

    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert 'Attribute "attempts" is read-only' in checked.stdout
