"""What every TLS context with which we connect to others leaves out."""

import re
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path

from event_platform.adapters.tls import client_context

MAKES_ONE = re.compile(r"^.*\b(?:create_default_context|SSLContext)\(.*$", re.MULTILINE)
SOURCES = [*Path("functions").rglob("*.py"), *Path("local").rglob("*.py")]
SUPPORTED_GROUPS = 10
P_256 = 23


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first record that a client with this context sends."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(received, sent, server_hostname="receiver.example").do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("there is no peer to end the handshake with")


def extensions_of(hello: bytes) -> Mapping[int, bytes]:
    """The extensions of a ClientHello (RFC 8446 4.1.2) by their type."""
    at = 5 + 4 + 2 + 32  # headers of record and message, version, random
    at += 1 + hello[at]  # session id
    at += 2 + struct.unpack_from("!H", hello, at)[0]  # cipher suites
    at += 1 + hello[at]  # compression methods
    at += 2
    found: dict[int, bytes] = {}
    while at < len(hello):
        kind, size = struct.unpack_from("!HH", hello, at)
        found[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def test_a_clients_context_verifies_and_takes_names_of_the_san_alone() -> None:
    context = client_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.hostname_checks_common_name


def test_no_peer_can_choose_a_key_exchange_that_is_dear() -> None:
    context = client_context()
    offered = extensions_of(client_hello(context))[SUPPORTED_GROUPS]
    assert struct.unpack(f"!{len(offered) // 2}H", offered)[1:] == (P_256,)  # the first is their size
    ciphers = [cipher["name"] for cipher in context.get_ciphers()]
    assert ciphers
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in ciphers)


def test_no_peer_can_begin_another_handshake() -> None:
    assert client_context().options & ssl.OP_NO_RENEGOTIATION


def test_every_clients_context_is_made_so() -> None:
    made = {line.strip() for path in SOURCES for line in MAKES_ONE.findall(path.read_text())}
    assert made
    assert all("restricted(" in line or "CLIENT_AUTH" in line for line in made), made
