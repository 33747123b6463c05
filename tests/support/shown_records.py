"""Records as the management API answers with them, for tests of what commands show."""

from event_platform.domain.timestamps import to_rfc3339
from support.clock import START

TYPES = tuple(f"com.akeneo.pim.v1.product.{done}" for done in ("created", "updated", "removed"))


def id_of(number: int) -> str:
    return f"0199c1a1-02f4-7d8b-8e6f-{number:012}"


SUBSCRIBER = {
    "id": id_of(11),
    "name": "ERP connector",
    "status": "active",
    "contact": {
        "technical_email": "the-people-who-look-after-the-connector@example.com",
        "notification_channels": ["email", "webhook"],
        "notification_webhook_url": "https://hooks.example.com/told",
    },
    "created_at": to_rfc3339(START),
    "updated_at": to_rfc3339(START),
}
RECORD = {
    "id": id_of(1),
    "subscriber_id": id_of(11),
    "status": "active",
    "type": "https",
    "source": "pim",
    "config": {
        "url": "https://erp.example.com/akeneo/events",
        "secret": {"primary": "***redacted***", "secondary": "***redacted***"},
        "headers": {"X-Stage": "***redacted***"},
    },
    "events": TYPES,
    "filter": 'not user = "erp_4711"',
    "send_product_identifier": True,
    "catch_up": True,
    "created_at": to_rfc3339(START),
    "updated_at": to_rfc3339(START),
    "last_failure": {"at": to_rfc3339(START), "status": 503, "reason": "destination_failure"},
}
TOPIC = RECORD | {"type": "pubsub", "config": {"project_id": "search", "topic_id": "pim-events"}}
