"""Lanes: the ordering keys that deliveries travel under. One message of a lane is outstanding at a time."""

import zlib

LANES_AT_START = 16


def lane_of(identity: tuple[str, ...], event_id: str, lanes: int) -> int:
    """The lane, 0 to `lanes` - 1, of an entity; of the event itself when it names no entity.

    The same in every process and version, since it decides which changes stay in order.
    """
    name = "\0".join(identity) if identity else event_id
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % lanes


def lanes_of_replay(lanes: int) -> int:
    """The number of a replay's own lanes beside so many of the subscription, where topics keep the events."""
    return max(1, lanes // 4)
