"""The mailer against a real SMTP server, good and in trouble."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from email.message import EmailMessage

import pytest
from pydantic import SecretStr

from event_platform.adapters.smtp import DEADLINE_SECONDS, SmtpMailer
from event_platform.domain.mail_servers import MailServer
from event_platform.domain.record.notifications import WEBHOOK_PAUSES, WEBHOOK_SECONDS, Mail, MailFailure
from support.clock import START
from support.mail_server import MAIL_PASSWORD, USER, MailBox, mail_server
from support.processes import free_port
from support.servers import Certificates

FROM = "events@example.com"
OPS = "ops@example.com"


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def plain(stack: ExitStack) -> MailBox:
    return stack.enter_context(mail_server())


def a_mail(*, recipient: str = OPS, subject: str = "Suspended", text: str = "It was suspended.\n") -> Mail:
    return Mail("0190-id", recipient, subject, text, START)


def mailer(
    port: int,
    *,
    tls_first: bool = False,
    user: str | None = None,
    password: str = MAIL_PASSWORD,
    tls: ssl.SSLContext | None = None,
    deadline: float = 10,
    host: str = "127.0.0.1",
) -> SmtpMailer:
    secret = SecretStr(password) if user else None
    server = MailServer(host, port, tls_first, FROM, user, secret)
    return SmtpMailer(server, tls=tls, deadline=deadline)


def failure_of(result: MailFailure | None) -> MailFailure:
    assert result is not None
    return result


async def test_a_mail_arrives_with_the_headers_of_one_that_nobody_wrote(plain: MailBox) -> None:
    assert await mailer(plain.port).send(a_mail()) is None
    (arrived,) = plain.mails
    assert isinstance(arrived, EmailMessage)
    assert {name: arrived[name] for name in ("From", "To", "Subject", "Message-ID", "Auto-Submitted")} == {
        "From": FROM,
        "To": OPS,
        "Subject": "Suspended",
        "Message-ID": "<0190-id@example.com>",
        "Auto-Submitted": "auto-generated",
    }
    assert arrived["Date"].datetime == START
    assert arrived.get_content().splitlines() == ["It was suspended."]
    assert (plain.senders, plain.recipients) == ([FROM], [[OPS]])


async def test_text_beyond_ascii_and_long_lines_arrive_as_they_were(plain: MailBox) -> None:
    text = "Zwölf Boxkämpfer 🥊\n.\n" + 2000 * "x" + "\n"
    assert await mailer(plain.port).send(a_mail(subject="Größe 🥊", text=text)) is None
    (arrived,) = plain.mails
    assert (arrived["Subject"], arrived.get_content().splitlines()) == ("Größe 🥊", text.splitlines())


async def test_an_address_beyond_ascii_is_written_to(plain: MailBox) -> None:
    assert await mailer(plain.port).send(a_mail(recipient="größe@example.com")) is None
    assert plain.recipients == [["größe@example.com"]]


async def test_starttls_is_used_where_it_is_offered(certificates: Certificates, stack: ExitStack) -> None:
    box = stack.enter_context(mail_server(starttls=certificates.good()))
    assert await mailer(box.port, tls=certificates.trust).send(a_mail()) is None
    assert box.over_tls == [True]


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # there is TLS from the first byte
async def test_tls_first_and_a_password(certificates: Certificates, stack: ExitStack) -> None:
    box = stack.enter_context(mail_server(tls_first=certificates.good(), password=True))
    sender = mailer(box.port, tls_first=True, user=USER, tls=certificates.trust)
    assert await sender.send(a_mail()) is None
    assert await sender.check() is None
    assert box.users == [USER]


async def test_starttls_and_a_password(certificates: Certificates, stack: ExitStack) -> None:
    box = stack.enter_context(mail_server(starttls=certificates.good(), password=True))
    assert await mailer(box.port, user=USER, tls=certificates.trust).send(a_mail()) is None
    assert (box.over_tls, box.users) == ([True], [USER])


async def test_a_password_is_never_sent_without_tls(plain: MailBox) -> None:
    failure = failure_of(await mailer(plain.port, user=USER).send(a_mail()))
    assert "STARTTLS" in failure.detail
    assert (failure.permanent, plain.users, plain.mails) == (False, [], [])


async def test_a_certificate_counts_for_no_name_but_those_of_its_san(
    certificates: Certificates, stack: ExitStack
) -> None:
    box = stack.enter_context(mail_server(tls_first=certificates.name_without_san("localhost")))
    sender = mailer(box.port, tls_first=True, tls=certificates.trust, host="localhost")
    assert "the certificate is for another host name" in failure_of(await sender.send(a_mail())).detail


async def test_a_wrong_password_is_said_to_be_one(certificates: Certificates, stack: ExitStack) -> None:
    box = stack.enter_context(mail_server(starttls=certificates.good(), password=True))
    wrong = mailer(box.port, user=USER, password="wrong", tls=certificates.trust)
    for failure in (failure_of(await wrong.send(a_mail())), failure_of(await wrong.check())):
        assert "user and password of AEP_SMTP_URL" in failure.detail
        assert (failure.code, failure.permanent) == (535, False)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wrong_name", "is for another IP address"),
        ("expired", "has expired"),
        ("unknown_authority", "'s issuer is not known here"),
        ("self_signed", "is signed by itself"),
    ],
)
@pytest.mark.parametrize("tls_first", [True, False])
async def test_a_certificate_that_does_not_verify_ends_it(
    certificates: Certificates, stack: ExitStack, kind: str, words: str, tls_first: bool
) -> None:
    context = getattr(certificates, kind)()
    box = stack.enter_context(mail_server(**{"tls_first" if tls_first else "starttls": context}))
    failure = failure_of(await mailer(box.port, tls_first=tls_first, tls=certificates.trust).send(a_mail()))
    assert failure.detail.startswith("no TLS with the mail server: the certificate")
    assert words in failure.detail
    assert (failure.permanent, box.mails) == (False, [])


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("code", "permanent"), [(451, False), (550, True)])
async def test_a_refusal_is_for_now_or_for_good_as_its_code_says(
    plain: MailBox, command: str, code: int, permanent: bool
) -> None:
    plain.replies[command] = [f"{code} <{OPS}> greylisted or unknown"]
    failure = failure_of(await mailer(plain.port).send(a_mail()))
    assert (failure.code, failure.permanent) == (code, permanent)
    assert OPS not in failure.detail


async def test_a_server_that_is_down_refuses_for_now() -> None:
    failure = failure_of(await mailer(free_port()).send(a_mail()))
    assert failure == MailFailure("the mail server refuses connections")


async def test_a_server_that_says_nothing_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure = failure_of(await mailer(silent.getsockname()[1], deadline=0.2).send(a_mail()))
    assert failure == MailFailure("the mail server did not answer in time")


async def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"220-still starting\r\n")
            await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as slow:
        port = slow.sockets[0].getsockname()[1]
        failure = failure_of(await mailer(port, deadline=0.3).send(a_mail()))
        assert failure == MailFailure("the mail server did not answer in time")


async def test_a_server_that_is_slow_at_every_command_is_given_up_at_the_deadline_of_the_whole() -> None:
    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 slow\r\n")
        while await reader.readline():
            await asyncio.sleep(0.15)  # sooner than any one command would be given up
            writer.write(b"250 go on\r\n")

    async with await asyncio.start_server(answer_slowly, "127.0.0.1", 0) as slow:
        port = slow.sockets[0].getsockname()[1]
        failure = failure_of(await mailer(port, deadline=0.4).send(a_mail()))
        assert failure == MailFailure("the mail server did not answer in time")


def test_what_notify_may_wait_for_leaves_room_before_its_push_comes_again() -> None:
    webhook = (len(WEBHOOK_PAUSES) + 1) * WEBHOOK_SECONDS + sum(WEBHOOK_PAUSES)
    assert webhook + DEADLINE_SECONDS <= 40  # of 60 s, the ack deadline


async def test_a_server_that_hangs_up_failed_for_now() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as gone:
        failure = failure_of(await mailer(gone.sockets[0].getsockname()[1]).send(a_mail()))
    assert failure == MailFailure("the mail server cannot be reached")


async def test_a_name_that_does_not_resolve_failed_for_now() -> None:
    server = MailServer("mail.invalid", 25, False, FROM)
    failure = failure_of(await SmtpMailer(server, deadline=10).send(a_mail()))
    assert (failure.detail, failure.permanent) == ("the mail server cannot be reached", False)
