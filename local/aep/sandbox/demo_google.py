"""The demo on Google's emulators: the six functions as processes, wired by topics and push subscriptions."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from ..google import emulators, functions_on_emulators
from ..google.emulators import EmulatorFailed
from ..output import echo
from . import demo
from .demo import SERVE_SETTINGS, Platform, Stage
from .demo_processes import Children

LAST_LINES = 8


def run_demo() -> int:
    """Runs the demo to its end; returns the same exit status as `demo.run_demo`."""
    try:
        with emulators.running_pubsub() as pubsub, emulators.running_firestore() as firestore:
            return demo.run_demo(stage=_stage(pubsub, firestore))
    except EmulatorFailed as error:
        echo(f"aep demo-google: {error}", err=True)
        return 2


def _stage(pubsub: str, firestore: str) -> Stage:
    @asynccontextmanager
    async def emulated(children: Children, folder: Path, pim: Mapping[str, Any]) -> AsyncIterator[Platform]:
        started = functions_on_emulators.running(
            f"demo-{uuid.uuid4().hex[:20]}",
            pubsub=pubsub,
            firestore=firestore,
            folder=folder,
            settings=SERVE_SETTINGS | {"AEP_PIMS": orjson.dumps([pim]).decode()},
        )
        async with started as platform:
            functions = platform.functions

            def last_words() -> list[str]:
                logs = [(name, function.lines()) for name, function in functions.items()]
                return [f"{name}: {line}" for name, lines in logs for line in lines[-LAST_LINES:]]

            yield Platform(functions["manage"].url, functions["ingest"].url, last_words)

    return Stage(
        emulated,
        what="the six functions",
        rate=20,
        events_per_format=40,
        events_per_act=10,
        steps_seconds=120,
        delivered_seconds=45,
        act_seconds=20,
        in_force_seconds=5,
    )
