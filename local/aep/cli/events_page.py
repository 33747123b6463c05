"""`docs/events.md`: every event type on one page, made from the catalog."""

import re
from itertools import groupby

import orjson

from event_platform.domain.events.catalog import Catalog, EventType
from event_platform.domain.events.facts import IDENTIFIER_TYPES

INTRODUCTION = """\
# Events

All {count} event types that a subscription can list in `events`. `aep events --markdown` makes this page from
the catalog; with `--event-types FILE` it has your own types too ([settings](settings.md#event-types)).

- The platform serves the schema of each type's `data` at `/spec/<type>.schema.json`; `/spec/` lists them.
  `/asyncapi.json` describes whole deliveries, headers and examples included.
- **Ordered by** names the fields of `data` whose equal values come in order; without any, events have none.
- **Certainty** says where the form of `data` is known from. What is inferred may differ in a real PIM.
- ¹ `data.product.identifier` is delivered only with `"send_product_identifier": true` in the subscription.

| type | trigger | ordered by | certainty |
|---|---|---|---|
"""


def page(types: Catalog) -> str:
    """Returns the page as Markdown."""
    listed = list(types.types.values())
    rows = "".join(map(_row, listed))
    sections = [
        f"\n## {family}\n\n" + "\n".join(map(_details, group)) for family, group in groupby(listed, _family)
    ]
    return INTRODUCTION.format(count=len(listed)) + rows + "".join(sections)


def _row(event_type: EventType) -> str:
    mark = " ¹" if event_type.name in IDENTIFIER_TYPES else ""
    ordered = ", ".join(f"`{'.'.join(path)}`" for path in event_type.identity) or "–"
    cells = (f"`{event_type.name}`{mark}", event_type.trigger, ordered, event_type.certainty)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _details(event_type: EventType) -> str:
    example = orjson.dumps(event_type.example, option=orjson.OPT_INDENT_2).decode()
    return (
        f"<details><summary><code>{event_type.name}</code></summary>\n\n{event_type.trigger}\n\n"
        f"```json\n{example}\n```\n\n</details>\n"
    )


def _family(event_type: EventType) -> str:
    """Returns the part before the action: `com.akeneo.pim.v1.product` of
    `com.akeneo.pim.v1.product.updated.delta`.
    """
    before, version, after = re.split(r"(\.v\d+\.|$)", event_type.name, maxsplit=1)
    return f"{before}{version}{after.partition('.')[0]}"
