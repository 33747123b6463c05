"""Topics and subscriptions on a Pub/Sub emulator on this machine."""

from typing import Any
from urllib.parse import urlsplit

import requests

from .outputs import Settings
from .wire import Properties

THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
TYPES = frozenset({"gcp:pubsub/topic:Topic", "gcp:pubsub/subscription:Subscription"})
LEFT_OUT = frozenset(
    {"name", "project", "topic", "deletionPolicy", "pulumiLabels", "effectiveLabels", "tags", "__defaults"}
)


class GoogleError(Exception):
    """Raised when a call of Google's API is refused. The text is what the provider shows."""


class Emulator:
    """Creates, updates, reads and deletes at one emulator. Raises ValueError for one elsewhere."""

    def __init__(self, endpoint: str) -> None:
        if urlsplit(endpoint).hostname not in THIS_MACHINE:
            raise ValueError(f"pubsubCustomEndpoint must be on this machine, got {endpoint}")
        self._endpoint = endpoint.rstrip("/") + "/"

    def call(self, method: str, name: str, body: Properties | None = None) -> Properties | None:
        """Returns the answer, or None for what does not exist. Raises GoogleError and OSError."""
        answer = requests.request(method, self._endpoint + name, json=body, timeout=30)
        if answer.status_code == 404 and method in ("GET", "DELETE"):
            return None
        if not answer.ok:
            raise GoogleError(f"googleapi: Error {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def create(self, token: str, identity: str, inputs: Properties, settings: Settings) -> None:
        """Makes a topic or a subscription."""
        self.call("PUT", identity, self._body(token, inputs, settings))

    def update(
        self, token: str, identity: str, inputs: Properties, old: Properties, settings: Settings
    ) -> None:
        """Changes what differs."""
        body, before = self._body(token, inputs, settings), self._body(token, old, settings)
        # The emulator takes labels in a creation but not in an update.
        fields = {*body, *before} - LEFT_OUT - {"labels"}
        changed = sorted(field for field in fields if body.get(field) != before.get(field))
        if changed:
            kind = "topic" if token.endswith(":Topic") else "subscription"
            self.call("PATCH", identity, {kind: {**body, "name": identity}, "updateMask": ",".join(changed)})

    def _body(self, token: str, inputs: Properties, settings: Settings) -> Properties:
        kept = {name: value for name, value in inputs.items() if name not in LEFT_OUT}
        body: Properties = _without_empty_text(kept)
        if token.endswith(":Subscription"):
            topic = inputs["topic"]
            project = inputs.get("project") or settings.project
            body["topic"] = topic if "/" in topic else f"projects/{project}/topics/{topic}"
        return body


def _without_empty_text(value: Any) -> Any:
    """Returns the value as Google's provider sends it: an empty string is 'not set'."""
    if isinstance(value, dict):
        return {name: _without_empty_text(inner) for name, inner in value.items() if inner != ""}
    return [_without_empty_text(inner) for inner in value] if isinstance(value, list) else value
