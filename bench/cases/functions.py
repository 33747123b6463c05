"""The functions of Google Cloud: from the start of a process to its first answer, beside their floor."""

import base64
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..errors import BenchFailed
from ..figures import Figure, case
from ..measuring import Bench

SOURCE = Path(__file__).parents[2] / "functions" / "main.py"
NAMES = ("manage", "ingest", "fanout", "deliver", "maintain", "notify")
PATIENCE_SECONDS = 30.0
AIM = "≤ 0.6, or floor + 0.1"
_EMPTY = """
from functions_framework import aio
{imports}
@aio.http
async def nothing(request):
    return "ok"
"""
_FLOORS = {
    "an empty function": "",
    "the same with Google's clients": "import google.pubsub_v1, google.cloud.firestore_v1",
}


@case("functions", "each cloud function, start to /health")
def functions(bench: Bench) -> list[Figure]:
    settings = {
        "GOOGLE_CLOUD_PROJECT": "bench",
        "AEP_SECRETS_KEY": base64.b64encode(bytes(32)).decode(),
        "AEP_PUBLIC_URL": "https://events.example.com",
        # Nothing is asked of them before the first request; with an address no credentials are looked for.
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
    }
    figures = [Figure(name, _seconds(SOURCE, name, settings), "s", AIM) for name in NAMES]
    with tempfile.TemporaryDirectory(prefix="aep-bench-") as folder:
        source = Path(folder) / "main.py"
        for name, imports in _FLOORS.items():
            source.write_text(_EMPTY.format(imports=imports))
            figures.append(Figure(name, _seconds(source, "nothing", {}), "s"))
    return figures


def _seconds(source: Path, target: str, settings: dict[str, str]) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AEP_")}
    framework = [sys.executable, "-m", "functions_framework", "--source", str(source), "--target", target]
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        [*framework, "--host", "127.0.0.1", "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**inherited, **settings},
    )
    try:
        while time.monotonic() < began + PATIENCE_SECONDS:
            if _answers(port):
                return time.monotonic() - began
            time.sleep(0.01)
        raise BenchFailed(f"the function {target} did not answer within {PATIENCE_SECONDS:g} s")
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
