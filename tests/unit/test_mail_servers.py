"""The URL of a mail server, and the address that mails come from."""

import pytest

from event_platform.domain.mail_servers import check_sender, mail_server_of

FROM = "events@example.com"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls_first"),
    [
        ("smtp://mail.example.com", "mail.example.com", 587, False),
        ("smtps://mail.example.com", "mail.example.com", 465, True),
        ("smtp://127.0.0.1:25/", "127.0.0.1", 25, False),
        ("smtps://[::1]:4650", "::1", 4650, True),
    ],
)
def test_host_port_and_tls(url: str, host: str, port: int, tls_first: bool) -> None:
    server = mail_server_of(url, FROM)
    assert (server.host, server.port, server.tls_first, server.user) == (host, port, tls_first, None)


def test_user_and_password_are_percent_encoded() -> None:
    server = mail_server_of("smtps://ops%40example.com:p%3A%2F%40ss@mail.example.com", FROM)
    assert server.user == "ops@example.com"
    assert server.password is not None
    assert server.password.get_secret_value() == "p:/@ss"
    assert "p:/@ss" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.com",
        "http://mail.example.com",
        "smtp://",
        "smtp://:25",
        "smtp://mail.example.com:high",
        "smtp://mail.example.com:99999",
        "smtp://mail.example.com/path",
        "smtp://mail.example.com?starttls=no",
        "smtp://mail.example.com\nx",
        "smtp://user@mail.example.com",
        "smtp://:secret-word@mail.example.com",
        "smtp://user:secret/word@mail.example.com",
    ],
)
def test_what_is_no_mail_server_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"smtp://.* or smtps://") as refused:
        mail_server_of(url, FROM)
    assert "secret" not in str(refused.value)


def test_the_sender_is_an_address() -> None:
    assert check_sender(FROM) == FROM
    for wrong in ("events", "Events <events@example.com>", "events@example.com\nBcc: x@example.com", ""):
        with pytest.raises(ValueError, match="must be an e-mail address"):
            check_sender(wrong)
