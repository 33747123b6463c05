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


@pytest.mark.parametrize("function", wiring.SETTINGS)
def test_a_function_is_built_before_its_port_opens(function: str) -> None:
    environment = {
        "FUNCTION_TARGET": function,
        "GOOGLE_CLOUD_PROJECT": "test",
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
        "AEP_SECRETS_KEY": "A" * 43 + "=",
        "AEP_REGISTRY_KEY": "B" * 42 + "A=",
        "AEP_PUBLIC_URL": "https://events.example.com",
    }
    ended = subprocess.run(
        [sys.executable, "-c", STARTED], cwd=SOURCE, env=environment, capture_output=True, check=True
    )
    built, loaded = json.loads(ended.stdout)
    assert built == [function]
    assert set(loaded) == NEEDED[function]
