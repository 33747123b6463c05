"""Bounds and patterns of the fields that clients send (contract/wire.md 3, 4 and 14).

Each stands here once: the models of `manage` check by it, and OpenAPI describes it. A pattern holds for the
whole text.
"""

import re

MAX_NAME_LENGTH = 255
MAX_EMAIL_LENGTH = 254
"""The limit of RFC 5321 (4.5.3.1.3, less the angle brackets)."""
MIN_SECRET_LENGTH, MAX_SECRET_LENGTH = 16, 256
MAX_PASSWORD_LENGTH = 1024
MAX_CHANNELS = 100
"""Many times as many as there are; bounds the work that a wrong list makes, and the answer to it."""
MAX_EVENT_TYPES = 1000

PROJECT = r"^([a-z0-9.-]{1,200}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$"
TOPIC = r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$"
KAFKA_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
MAX_KAFKA_TEXT_LENGTH = 249
"""The length of a user name, and of the name that a broker's certificate is for."""

MAX_BENCHMARK_EVENTS = 10_000
MAX_BENCHMARK_SIZE = 10
"""The size of an event's data, in kB of 1,024 bytes."""
NUMBER = r"^\d{1,9}(\.\d{1,9})?$"
MAX_CUSTOM_DATA = 10 * 1024

MAX_ID_LENGTH = 64
"""The length of an id in a query of the log."""
MAX_CURSOR_LENGTH = 256


def fits(pattern: str, text: str) -> bool:
    """True if the whole text fits the pattern."""
    return re.fullmatch(pattern, text, re.ASCII) is not None
