"""The events that the bench sends.

Their ids contain the run and their number, so that none can be mistaken.
"""

import uuid
from datetime import UTC, datetime

TYPE = "com.akeneo.pim.v1.product.updated"
CLOUDEVENTS, EVENTS_API, PUSHES = "cloudevents", "events-api", "pushes"
"""The forms in which events are published; pushes are deliveries already."""
_HEAD = b'{"specversion":"1.0","id":"%b","source":"bench","type":"%b","time":"%b","data":'
_WEBHOOK = (
    b'{"action":"product.updated","event_id":"%b","event_datetime":"%b","author":"bench","author_type":"api",'
    b'"pim_source":"http:\\/\\/localhost:8080","data":{"resource":{"uuid":"%b","values":"%b"}}}'
)
_DATA = b'{"product":{"uuid":"%b"},"author":{"identifier":"bench","type":"api"},"pad":"%b"}'


def event_id(run: str, number: int) -> str:
    return f"{run}-{number:08}"


def structured(run: str, number: int, size: int) -> bytes:
    """Returns a CloudEvent of `size` bytes about a product of its own, padded inside its data."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = _HEAD % (event_id(run, number).encode(), TYPE.encode(), time.encode())
    product = str(uuid.uuid4()).encode()
    pad = b"x" * max(0, size - len(head) - len(_DATA % (product, b"")) - 1)
    return head + _DATA % (product, pad) + b"}"


def of_the_events_api(run: str, number: int, size: int) -> bytes:
    """Returns an event of `size` bytes as in a PIM's webhook, about a product of its own."""
    time = datetime.now(UTC).isoformat(timespec="seconds").encode()
    parts = (event_id(run, number).encode(), time, str(uuid.uuid4()).encode())
    return _WEBHOOK % (*parts, b"x" * max(0, size - len(_WEBHOOK % (*parts, b""))))
