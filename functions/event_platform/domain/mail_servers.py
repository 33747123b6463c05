"""The mail server as an operator writes it down: a URL, and the address that mails come from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

WANTED_URL = (
    "must be smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://[USER:PASSWORD@]HOST[:PORT],"
    " with user and password percent-encoded"
)
_PORTS = {"smtp": 587, "smtps": 465}  # RFC 8314, 3.3


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server and the sender of our mails. With `tls_first` a connection begins with TLS, else STARTTLS."""

    host: str
    port: int
    tls_first: bool
    sender: str
    user: str | None = None
    password: SecretStr | None = None

    @property
    def sender_domain(self) -> str:
        """The host in ASCII, as the protocol wants it."""
        return _checked(self.sender).ascii_domain


def mail_server_of(url: str, sender: str) -> MailServer:
    """Raises ValueError saying what is expected of the URL, without quoting it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(WANTED_URL) from None
    rest = parts.path.strip("/") + parts.query + parts.fragment
    if parts.scheme not in _PORTS or not parts.hostname or rest or len(url.split()) != 1:
        raise ValueError(WANTED_URL)
    if bool(parts.username) != bool(parts.password):
        raise ValueError(WANTED_URL)
    return MailServer(
        parts.hostname,
        port or _PORTS[parts.scheme],
        parts.scheme == "smtps",
        sender,
        unquote(parts.username) if parts.username else None,
        SecretStr(unquote(parts.password)) if parts.password else None,
    )


def check_sender(address: str) -> str:
    """Raises ValueError when it is no e-mail address."""
    try:
        return _checked(address).normalized
    except ValueError:
        raise ValueError("must be an e-mail address, such as events@example.com") from None


def _checked(address: str) -> "ValidatedEmail":
    from email_validator import validate_email  # takes 20 ms, and most functions know no sender

    return validate_email(address, check_deliverability=False, globally_deliverable=False)
