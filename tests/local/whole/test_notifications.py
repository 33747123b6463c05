"""What a subscriber is told by a platform that runs: mails in a real server, webhooks that verify."""

import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.mail_server import MailBox, mail_server
from support.one_pim import PRIMARY, arguments, client_of
from support.processes import Child, Client, http, received, server, signature, until, with_metrics
from support.records import UPDATED

WEBHOOK_SECRET = "the-secret-of-the-notifications"
MAIL_FROM = "events@example.com"
DESTINATION = "http://127.0.0.1:8999/hook"


@pytest.fixture(scope="module")
def mail() -> Iterator[MailBox]:
    with mail_server() as box:
        yield box


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ("inbox", "--quiet", "--secret", WEBHOOK_SECRET)
    with server(tmp_path_factory.mktemp("inbox"), *arguments) as child:
        yield child.url


def settings(mail: MailBox) -> dict[str, str]:
    return {"AEP_SMTP_URL": f"smtp://127.0.0.1:{mail.port}", "AEP_MAIL_FROM": MAIL_FROM}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, mail: MailBox) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("platform")
    with server(folder, *arguments(folder), settings=settings(mail) | with_metrics()) as child:
        yield child


@dataclass
class Subscribed:
    """A subscription of an own subscriber, which has an address of its own."""

    client: Client
    contact: dict[str, Any] = field(default_factory=dict[str, Any])
    address: str = field(default_factory=lambda: f"{uuid.uuid4().hex}@example.com")

    def __post_init__(self) -> None:
        body = {"name": "ERP", "contact": {"technical_email": self.address} | self.contact}
        self.subscriber: str = self.client.call("POST", "/subscribers", body, expect=201)["id"]
        self.subscription = self.another()

    def another(self) -> str:
        config = {"url": DESTINATION, "secret": {"primary": PRIMARY}}
        body = {"events": [UPDATED], "type": "https", "config": config}
        path = f"/subscribers/{self.subscriber}/subscriptions"
        return self.client.call("POST", path, body, expect=201)["id"]

    @property
    def path(self) -> str:
        return f"/subscribers/{self.subscriber}/subscriptions/{self.subscription}"

    def order(self, *verbs: str) -> Any:
        """The last answer."""
        return [self.client.call("POST", f"{self.path}/{verb}", expect=202) for verb in verbs][-1]

    def mails(self, box: MailBox, number: int = 1) -> list[EmailMessage]:
        def found() -> list[EmailMessage]:
            own = [each for each in box.mails if each["To"] == self.address]
            return own if len(own) >= number else []

        return until(found, f"{number} mails")


def by_webhook(url: str, *channels: str) -> dict[str, Any]:
    return {
        "notification_channels": list(channels),
        "notification_webhook_url": url,
        "notification_webhook_secret": WEBHOOK_SECRET,
    }


def told_at(inbox: str, path: str, number: int) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        rows = received(inbox, path)
        return rows if len(rows) >= number else []

    return until(found, f"{number} requests to {path}")


def lines(child: Child, name: str, subscriber: str) -> list[dict[str, Any]]:
    parsed = [orjson.loads(line) for line in child.stderr().splitlines() if line.startswith("{")]
    return [line for line in parsed if line["event"] == name and line["subscriber_id"] == subscriber]


def test_a_suspension_is_told_by_mail_and_by_a_webhook_that_verifies(
    platform: Child, mail: MailBox, inbox: str
) -> None:
    own = Subscribed(client_of(platform), by_webhook(f"{inbox}/both", "email", "webhook"))
    record = own.order("suspend")

    (told,) = own.mails(mail)
    assert told["From"] == MAIL_FROM
    assert told["Subject"] == "Suspended: a subscription of ERP"
    text = told.get_content()
    resume = f"POST {platform.url}/api/v1{own.path}/resume"
    assert not [said for said in (record["id"], DESTINATION, UPDATED, resume) if said not in text]

    (delivery,) = told_at(inbox, "/both", 1)
    assert delivery["type"] == "subscription.suspended.user"
    assert delivery["verified"] is True
    headers, body = delivery["headers"], delivery["body"]
    assert headers["x-akeneo-signature-primary"] == signature(WEBHOOK_SECRET, body.encode())
    assert headers["x-akeneo-signature-algorithm"] == "HmacSHA256"
    assert "x-akeneo-signature-secondary" not in headers
    assert list(orjson.loads(body).items()) == [
        ("notification_type", "subscription.suspended.user"),
        ("timestamp", record["updated_at"]),
        ("subscription_id", record["id"]),
        ("subscriber_id", record["subscriber_id"]),
        ("destination", DESTINATION),
        ("events", [UPDATED]),
        ("subject", record["subject"]),
    ]


def test_what_changes_no_status_is_told_to_nobody(platform: Child, mail: MailBox, inbox: str) -> None:
    own = Subscribed(client_of(platform), by_webhook(f"{inbox}/changes", "email", "webhook"))
    own.client.call("PATCH", own.path, {"send_product_identifier": True}, expect=200)
    own.order("resume", "suspend", "suspend", "resume")
    assert [told["Subject"].partition(":")[0] for told in own.mails(mail, 2)] == ["Suspended", "Resumed"]
    kinds = [row["type"] for row in told_at(inbox, "/changes", 2)]
    assert kinds == ["subscription.suspended.user", "subscription.resumed"]


def test_the_deletion_of_a_subscriber_is_one_mail_and_no_webhook(
    platform: Child, mail: MailBox, inbox: str
) -> None:
    own = Subscribed(client_of(platform), by_webhook(f"{inbox}/deleted", "webhook"))
    second = own.another()
    own.client.call("DELETE", f"/subscribers/{own.subscriber}", expect=200)
    until(lambda: lines(platform, "notification.sent", own.subscriber), "the line of the mail")
    (told,) = own.mails(mail)
    assert told["Subject"] == "Deleted: the subscriber ERP"
    assert own.subscription in told.get_content()
    assert second in told.get_content()
    assert received(inbox, "/deleted") == []


def test_a_webhook_that_fails_three_times_is_told_by_mail_instead(
    platform: Child, mail: MailBox, inbox: str
) -> None:
    own = Subscribed(client_of(platform), by_webhook(f"{inbox}/500", "webhook"))
    own.order("suspend")
    (told,) = own.mails(mail)
    assert told["Subject"] == "Suspended: a subscription of ERP"
    tries = received(inbox, "/500")
    assert [one["attempt"] for one in tries] == [1, 2, 3]
    assert len({one["body"] for one in tries}) == 1


@pytest.mark.full
def test_what_was_not_told_when_the_process_was_killed_is_told_after_the_next_start(
    tmp_path: Path, mail: MailBox
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        hangs = settings(MailBox(silent.getsockname()[1]))
        with server(tmp_path, *arguments(tmp_path), settings=hangs) as child:
            own = Subscribed(client_of(child))
            own.order("suspend")
            on_its_way, _ = silent.accept()
            own.order("resume")
            child.kill_group()
            on_its_way.close()
    with server(tmp_path, *arguments(tmp_path), settings=settings(mail)):
        told = own.mails(mail, 2)
    assert [each["Subject"].partition(":")[0] for each in told] == ["Suspended", "Resumed"]


def test_no_log_line_holds_an_address_of_a_person(platform: Child, mail: MailBox) -> None:
    own = Subscribed(client_of(platform))
    mail.replies["RCPT"] = [f"550 5.1.1 <{own.address}> is unknown"]
    own.order("suspend")
    (line,) = until(lambda: lines(platform, "notification.failed", own.subscriber), "the line of the failure")
    assert (line["channel"], line["code"], line["attempts"]) == ("email", 550, 1)
    assert own.address not in platform.stderr()


def test_notifications_are_counted(platform: Child, mail: MailBox) -> None:
    own = Subscribed(client_of(platform))
    own.order("suspend")
    own.mails(mail)
    sample = 'aep_notifications_total{channel="email",result="sent"}'
    until(lambda: sample in http().get(platform.metrics, timeout=10).text, sample)


def test_without_a_mail_server_one_line_says_what_to_set(tmp_path: Path) -> None:
    with server(tmp_path, *arguments(tmp_path)) as child:
        own = Subscribed(client_of(child))
        own.order("suspend")
        until(lambda: lines(child, "notification.not_sent", own.subscriber), "the line")
        child.stop()
        (line,) = lines(child, "notification.not_sent", own.subscriber)
    assert "AEP_SMTP_URL" in line["fix"]
    assert line["severity"] == "WARNING"
