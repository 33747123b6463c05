"""The receiver that `docs/for-app-developers.md` shows, as a process."""

import re
import socket
import sys
from pathlib import Path

import pytest

from support import processes
from support.processes import Child, until

PAGE = Path(__file__).parents[3] / "docs" / "for-app-developers.md"
SECRET = "0123456789abcdef"
BODY = '{"id": "1", "data": {"name": "Leuchte für 5 €"}}'.encode()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-AKENEO-SIGNATURE-PRIMARY": processes.signature(SECRET, BODY)}, 200),
        ({"X-AKENEO-SIGNATURE-PRIMARY": processes.signature("another secret", BODY)}, 401),
        ({"X-AKENEO-SIGNATURE-PRIMARY": "é"}, 401),
        ({}, 401),
    ],
    ids=["signed", "by another secret", "not ASCII", "without a signature"],
)
def test_the_receiver_in_python(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    [program] = re.findall(
        r"```python\n((?:(?!```).)*ThreadingHTTPServer.*?)```", PAGE.read_text(), re.DOTALL
    )
    port = processes.free_port()
    out, err = tmp_path / "out", tmp_path / "err"
    variables = processes.environment({"SIGNING_SECRET": SECRET, "PORT": str(port)})
    command = [sys.executable, "-c", program]
    with Child("receiver", command, stdout=out, stderr=err, environment=variables) as receiver:
        until(lambda: is_listening(port) or receiver.status is not None, "the receiver listens")
        url = f"http://127.0.0.1:{port}/events"
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = processes.http().post(url, data=BODY, headers=encoded, timeout=60)
        assert answer.status_code == status, receiver.stderr()
        assert bool(receiver.stdout()) == (status == 200)
