"""What a function has loaded when its port opens: what its first request needs, and nothing heavy beside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import event_platform
from event_platform import wiring

SOURCE = Path(event_platform.__file__).parents[1]
FIRESTORE, PUBSUB = "google.cloud.firestore_v1", "google.pubsub_v1"
SENDING = "event_platform.adapters.http_client.client"
HEAVY = {
    FIRESTORE,
    PUBSUB,
    SENDING,
    "aiohttp",
    "aiokafka",
    "aiosmtplib",
    "email_validator",
    "jsonschema_rs",
    "lark",
}
NEEDED = {
    "manage": {FIRESTORE, SENDING},
    "ingest": {FIRESTORE, PUBSUB},
    "fanout": {FIRESTORE, PUBSUB},
    "deliver": {FIRESTORE, SENDING},
    "maintain": {FIRESTORE},
    "notify": {FIRESTORE, SENDING, "aiosmtplib"},
}
STARTED = f"""
import json, sys
import main
from event_platform import wiring
built = [name for name in wiring.SETTINGS if getattr(wiring, name).cache_info().currsize]
print(json.dumps([built, sorted({HEAVY!r} & sys.modules.keys())]))
"""


SERVED = """
from functions_framework import create_app
from functions_framework._http.gunicorn import UvicornApplication
from gunicorn.glogging import Logger
application = UvicornApplication(create_app("maintain", "main.py"), "127.0.0.1", 0, False)
options = application.cfg
worker = options.worker_class(1, 1, [], application, options.timeout, options, Logger(options))
print(worker.config.timeout_keep_alive, options.timeout)
"""
"""The server's process as the framework makes it."""


def test_the_framework_keeps_idle_connections_for_longer_than_googles_load_balancer() -> None:
    idle_seconds, _ = run(SERVED, "maintain").split()
    assert idle_seconds == "620"


def test_the_framework_kills_no_worker_that_gives_no_sign_of_life() -> None:
    _, limit = run(SERVED, "maintain").split()
    assert limit == "0"


@pytest.mark.parametrize("function", wiring.SETTINGS)
def test_a_function_is_built_before_its_port_opens(function: str) -> None:
    built, loaded = json.loads(run(STARTED, function))
    assert built == [function]
    assert set(loaded) == NEEDED[function]


def run(program: str, function: str) -> str:
    """Returns what the program prints in a process that would start the function."""
    environment = {
        "FUNCTION_TARGET": function,
        "CLOUD_RUN_TIMEOUT_SECONDS": "60",
        "GOOGLE_CLOUD_PROJECT": "test",
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
        "AEP_SECRETS_KEY": "A" * 43 + "=",
        "AEP_REGISTRY_KEY": "B" * 42 + "A=",
        "AEP_PUBLIC_URL": "https://events.example.com",
    }
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout
