"""Mail over SMTP with aiosmtplib: the port `Mailer`. TLS is verified; the whole exchange has one deadline.

RFC 5321; for ports and TLS RFC 8314, and for mails that nobody wrote RFC 3834.
"""

import asyncio
import contextlib
import ssl
from email.message import EmailMessage

import aiosmtplib

from ..domain.mail_servers import MailServer
from ..domain.record.notifications import Mail, MailFailure
from .tls import client_context, restricted
from .tls_words import tls_words

DEADLINE_SECONDS = 20.0
_GOODBYE_SECONDS = 1.0


class SmtpMailer:
    """A connection for each mail: they are few.

    STARTTLS is used where the server offers it; with a password nothing is sent without TLS. `tls` replaces
    the default context, which trusts the system's authorities.
    """

    def __init__(
        self,
        server: MailServer,
        *,
        tls: ssl.SSLContext | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._server = server
        self._tls = tls
        self._deadline = deadline

    async def send(self, mail: Mail) -> MailFailure | None:
        message = message_of(mail, self._server)
        return await self._converse(message, mail.recipient)

    async def check(self) -> MailFailure | None:
        """Connects, says EHLO, and goes as far as TLS and the password allow."""
        return await self._converse(None, "")

    async def _converse(self, message: EmailMessage | None, recipient: str) -> MailFailure | None:
        client = self._client()
        try:
            async with asyncio.timeout(self._deadline):
                await client.connect()
                if message is not None:
                    await client.send_message(message, sender=self._server.sender, recipients=[recipient])
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # the mail is theirs already
                await client.quit(timeout=_GOODBYE_SECONDS)
        except (aiosmtplib.SMTPException, OSError) as error:
            return _failure(error)
        finally:
            client.close()
        return None

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password.get_secret_value() if server.password else None,
            local_hostname=server.sender_domain,  # else asked of the resolver, by a thread that waits for it
            timeout=self._deadline,
            use_tls=server.tls_first,
            start_tls=False if server.tls_first else (True if server.user is not None else None),
            tls_context=restricted(self._tls) if self._tls is not None else client_context(),
        )


def message_of(mail: Mail, server: MailServer) -> EmailMessage:
    """Returns the mail in RFC 5322's form; its id is the same for each attempt, to recognise repetitions."""
    message = EmailMessage()
    message["From"] = server.sender
    message["To"] = mail.recipient
    message["Subject"] = mail.subject
    message["Date"] = mail.at
    message["Message-ID"] = f"<{mail.id}@{server.sender_domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message


def _failure(error: Exception) -> MailFailure:
    """Returns the failure. A server's words may quote addresses, so `detail` is in our own."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            code = error.recipients[0].code
            return MailFailure("the mail server refuses the recipient", code >= 500, code)
        case aiosmtplib.SMTPSenderRefused():
            return MailFailure("the mail server refuses AEP_MAIL_FROM", error.code >= 500, error.code)
        case aiosmtplib.SMTPDataError():
            return MailFailure("the mail server refuses the mail", error.code >= 500, error.code)
        case aiosmtplib.SMTPAuthenticationError():
            return MailFailure("the mail server refuses user and password of AEP_SMTP_URL", False, error.code)
        case aiosmtplib.SMTPNotSupported():
            return MailFailure("the mail server takes no addresses beyond ASCII", True)
        case aiosmtplib.SMTPResponseException():
            return MailFailure("the mail server refuses to talk", False, error.code)
    return MailFailure(_of_the_connection(error))


def _of_the_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLError():
                return f"no TLS with the mail server: {tls_words(cause)}"
            case TimeoutError():
                return "the mail server did not answer in time"
            case ConnectionRefusedError():
                return "the mail server refuses connections"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiosmtplib.SMTPServerDisconnected):
        return "the mail server hung up"
    if isinstance(error, aiosmtplib.SMTPConnectError | OSError):
        return "the mail server cannot be reached"
    return "the mail server offers no STARTTLS or no way to log in that is known here"
