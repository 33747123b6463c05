"""Draws the pictures of `docs/architecture.md` that follow from the code: `make pictures`.

Each stands between two comments, `<!-- name: make pictures -->` and `<!-- /name -->`, and is replaced whole.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
)
from event_platform.permissions import DELIVERIES_TOPICS, ENTITIES_UPDATE, PERMISSIONS, PUBLISHES_TO

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"

TOPICS: Mapping[str, tuple[str, str | None]] = {
    EVENTS_TOPIC: (EVENTS_TOPIC, "fanout"),
    DELIVERIES_TOPICS: (f"{DELIVERIES_TOPICS}-0, -1 …", "deliver"),
    NOTIFICATIONS_TOPIC: (NOTIFICATIONS_TOPIC, "notify"),
    DEAD_LETTERS_TOPIC: (DEAD_LETTERS_TOPIC, None),
}
"""Each topic's caption, and the function that it is pushed to; dead letters wait for an operator."""


def functions() -> Iterator[str]:
    """Yields the functions on Google Cloud, who calls them, the topics between them and the store."""
    yield "flowchart LR"
    yield '    pims(["PIMs"]) -->|HTTP| ingest'
    yield '    apps(["apps"]) -->|HTTP| manage'
    yield '    scheduler(["scheduler, each minute"]) --> maintain'
    yield f'    pims -->|publish| pim_events[/"pim-{EVENTS_TOPIC}-TENANT"/] -->|push| fanout'
    yield '    store[("Firestore")]'
    for topic, (caption, subscriber) in TOPICS.items():
        yield f'    {_id(topic)}[/"{caption}"/]' + (f" -->|push| {subscriber}" if subscriber else "")
    for function, topics in PUBLISHES_TO.items():
        yield f"    {function} --> " + " & ".join(_id(topic) for topic in TOPICS if topic in topics)
    for function, permissions in PERMISSIONS.items():
        yield f"    {function} {'<-.->' if ENTITIES_UPDATE in permissions else '-.-'} store"
    yield '    deliver -->|"https, Pub/Sub, Kafka"| receivers(["receivers"])'
    yield '    notify -->|"e-mail, webhook"| contacts(["contacts of subscribers"])'


def layers() -> Iterator[str]:
    """Yields the layers of imports, as the contracts of import-linter in `pyproject.toml` have them."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    yield "flowchart TB"
    for contract in tool["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            for package in contract.get("containers", ()):
                yield f"    subgraph {package}"
                yield from _layers_of(package, contract["layers"])
                yield "    end"
            if "containers" not in contract:
                yield "    " + " ==> ".join(contract["layers"])


def _layers_of(package: str, layers: Sequence[str]) -> Iterator[str]:
    names = [f"{package}_{number}" for number, _ in enumerate(layers)]
    for name, layer in zip(names, layers, strict=True):
        modules = [module.strip(" ()") for module in re.split(r"[|:]", layer)]
        yield f'        {name}["{" · ".join(modules)}"]'
    yield "        " + " --> ".join(names)


def _id(topic: str) -> str:
    return topic.replace("-", "_")


PICTURES = {"functions": functions, "layers": layers}


def page(text: str) -> str:
    """Returns the page with its pictures drawn anew. Raises KeyError for one that is unknown here."""

    def drawn(found: re.Match[str]) -> str:
        lines = "\n".join(PICTURES[found["name"]]())
        return f"{found['begin']}\n```mermaid\n{lines}\n```\n{found['end']}"

    return re.sub(
        r"(?P<begin><!-- (?P<name>\w+): make pictures -->)\n.*?(?P<end><!-- /(?P=name) -->)",
        drawn,
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
