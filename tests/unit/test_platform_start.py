"""The modules that `aep serve` has loaded when it is ready: those of every platform, and before it forks.

What few need costs each of the two processes memory, and the start its time. What is imported behind the fork
is in memory twice.
"""

import json
import subprocess
import sys
from pathlib import Path

from support.processes import environment

NOT_LOADED = {
    "aep.cli.main": {"aep.cli.doctor", "aep.cli.sandbox", "aep.doctor", "aep.google", "aep.sandbox"},
    "the console": {"aep.console.app", "aep.console.for_apps", "aep.console.pages", "jinja2"},
    "/metrics": {"aep.serving.metrics_page", "prometheus_client"},
    "Kafka": {"aiokafka", "event_platform.adapters.kafka.sender"},
    "certificates of subscribers": {"cryptography.x509", "event_platform.domain.tls_material"},
    "mail": {"aiosmtplib"},
    "the first body of the management API": {"email_validator", "lark", "rapidfuzz"},
    "tables and help": {"pygments", "rich"},
    "descriptions": {"event_platform.descriptions.openapi.examples"},
    "Google": {"google.auth", "grpc"},
    "tests and receivers": {"aiohttp", "httpx", "jsonschema_rs", "requests"},
}
"""The modules that are loaded when they are used first, by what uses them."""
STARTED = f"""
import json, os, signal, sys
from aep import __main__
from aep.serving import server

def fork():
    before_the_fork.extend(sys.modules)
    return forked()

def announce(url):
    behind = [name for name in sys.modules if name not in before_the_fork]
    print(json.dumps([sorted({set.union(*NOT_LOADED.values())!r} & sys.modules.keys()), behind]))
    os.kill(os.getpid(), signal.SIGTERM)

before_the_fork, forked = [], os.fork
os.fork, server.announce = fork, announce
sys.argv = ["aep", "serve", "--dev", "--port", "0", "--data", sys.argv[1], "--workers", "1"]
__main__.main()
"""


def test_a_platform_loads_what_few_need_when_it_is_used_and_the_rest_before_the_fork(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path / "data")],
        env=environment({"AEP_METRICS_PORT": "0", "AEP_CONSOLE_PORT": "0"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded, behind = json.loads(ended.stdout)
    assert loaded == []
    assert [name for name in behind if not name.startswith("uvicorn.")] == []
