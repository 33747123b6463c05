"""Deliveries as Pub/Sub pushes them to the function `deliver`."""

import base64
from datetime import UTC, datetime

import orjson

from event_platform.domain.deliveries import Delivery
from event_platform.domain.events import json_form
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.events.facts import Facts
from event_platform.domain.messages.queue_messages import delivery_message
from event_platform.domain.pace.rates import LANES_AT_MOST

from .events import TYPE, event_id, structured

TOPIC = "deliveries-0"
SUBSCRIPTION_ID = "018f0000-0000-7000-8000-000000000001"
LANES = LANES_AT_MOST
_HEADERS = (
    "Content-Type: application/json\r\n"
    "Accept: application/json\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "User-Agent: APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)\r\n"
    f"Authorization: Bearer {'t' * 900}\r\n"  # about as long as Google's tokens are
    "X-Forwarded-For: 192.0.2.1\r\n"
    "X-Forwarded-Proto: http\r\n"
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
)


def push(run: str, number: int, size: int) -> tuple[str, bytes]:
    """Returns headers and body of the push of one delivery whose event was published with `size` bytes.

    https://cloud.google.com/pubsub/docs/push#receive_push
    """
    sent = orjson.loads(structured(run, number, size))
    event = Event(
        sent["id"], TYPE, sent["time"], Facts(TYPE, sent["data"]), json_form.stringify(sent["data"]), ()
    )
    now = datetime.now(UTC)
    message = delivery_message(
        Delivery(
            subscription_id=SUBSCRIPTION_ID,
            event_id=event_id(run, number),
            event_type=TYPE,
            accepted_at=now,
            lane=number % LANES,
            lanes=LANES,
            epoch=0,
            body=envelope(event, "https://events.example.com/spec", with_identifier=True).addressed_to(
                SUBSCRIPTION_ID
            ),
        )
    )
    published, message_id = now.isoformat().replace("+00:00", "Z"), f"{number:017}"
    pushed = {
        "message": {
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
            "messageId": message_id,
            "message_id": message_id,
            "orderingKey": message.ordering_key,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": f"projects/bench/subscriptions/{TOPIC}",
        "deliveryAttempt": 1,
    }
    return _HEADERS, orjson.dumps(pushed)
