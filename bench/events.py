"""The events that the bench sends. Their ids tell the run and their number, so that none can be mistaken."""

import uuid
from datetime import UTC, datetime

TYPE = "com.akeneo.pim.v1.product.updated"
_HEAD = b'{"specversion":"1.0","id":"%b","source":"bench","type":"%b","time":"%b","data":'
_DATA = b'{"product":{"uuid":"%b"},"author":{"identifier":"bench","type":"api"},"pad":"%b"}'


def event_id(run: str, number: int) -> str:
    return f"{run}-{number:08}"


def structured(run: str, number: int, size: int) -> bytes:
    """A CloudEvent of `size` bytes about a product of its own, padded inside its data."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = _HEAD % (event_id(run, number).encode(), TYPE.encode(), time.encode())
    product = str(uuid.uuid4()).encode()
    pad = b"x" * max(0, size - len(head) - len(_DATA % (product, b"")) - 1)
    return head + _DATA % (product, pad) + b"}"
