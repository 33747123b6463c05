"""A real SMTP server in a thread of its own, which keeps what it takes and can play one in trouble."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER = "postmaster"
MAIL_PASSWORD = "p@ss:word/of the mail server"


@dataclass
class MailBox:
    """What came. `replies` are given to a command of that name, one each time, before it is taken again."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list[EmailMessage])
    recipients: list[list[str]] = field(default_factory=list[list[str]])
    senders: list[str] = field(default_factory=list[str])
    hellos: list[str] = field(default_factory=list[str])
    over_tls: list[bool] = field(default_factory=list[bool])
    users: list[str | None] = field(default_factory=list[str | None])
    replies: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    async def handle_EHLO(  # noqa: N802 - aiosmtpd looks for it
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.hellos.append(hostname)
        return responses

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._reply("MAIL"):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._reply("RCPT"):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks for it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if reply := self._reply("DATA"):
            return reply
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        self.senders.append(envelope.mail_from or "")
        self.over_tls.append(session.ssl is not None)
        self.users.append(session.auth_data)
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, method: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (USER.encode(), MAIL_PASSWORD.encode())
        return AuthResult(success=good, handled=False, auth_data=USER)

    def _reply(self, command: str) -> str | None:
        waiting = self.replies.get(command)
        return waiting.pop(0) if waiting else None


@contextmanager
def mail_server(
    *,
    port: int = 0,
    tls_first: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    password: bool = False,
) -> Iterator[MailBox]:
    """Listens on a loopback port for the block. With `password` USER has to log in first."""
    box = MailBox()
    loop = asyncio.new_event_loop()

    def protocol() -> SMTP:
        return SMTP(
            box,
            loop=loop,
            hostname="mail.example.com",
            enable_SMTPUTF8=True,
            tls_context=starttls,
            auth_required=password,
            auth_require_tls=tls_first is None,
            authenticator=box.authenticate,
        )

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    creating = loop.create_server(protocol, "127.0.0.1", port, ssl=tls_first)
    listener = asyncio.run_coroutine_threadsafe(creating, loop).result(5)
    box.port = listener.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        asyncio.run_coroutine_threadsafe(_end(listener), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _end(listener: asyncio.Server) -> None:
    """With the connections that are left, so that nobody is told of a task that was destroyed."""
    listener.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
