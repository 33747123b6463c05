"""Receivers that choose what their answers, or the way to them, cost us."""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme

from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.domain.attempts.outcomes import Reason, TransportFailure
from support.records import OWNER

HEADERS = [("Content-Type", "application/json")]


@contextlib.contextmanager
def served(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a TLS server in a thread of its own, whose work is none of the event loop's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with (
                        contextlib.suppress(OSError),
                        context.wrap_socket(connection, server_side=True) as peer,
                    ):
                        peer.recv(65536)
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def diffie_hellman_parameters(modulus: int) -> str:
    """In PEM, with the generator 2 (PKCS #3): what costs is the modulus' size, which need not be prime."""

    def der(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content

    size = modulus.bit_length() // 8 + 1
    numbers = der(2, modulus.to_bytes(size, "big")) + bytes([2, 1, 2])
    text = base64.encodebytes(der(0x30, numbers)).decode()
    return f"-----BEGIN DH PARAMETERS-----\n{text}-----END DH PARAMETERS-----\n"


async def test_a_receiver_does_not_choose_a_large_diffie_hellman_group(tmp_path: Path) -> None:
    """TLS 1.2 lets the server choose the group, and computing in one of 8,192 bits takes 200 ms."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    trust, context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(trust)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA).configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DHE:@SECLEVEL=0")
    group = tmp_path / "group.pem"
    group.write_text(diffie_hellman_parameters(2**8192 - 3))
    context.load_dh_params(str(group))
    sender = HttpsSender(GuardedNetwork(allow_loopback=True), tls=trust)
    with served(context) as port:
        result = await sender.post(f"https://127.0.0.1:{port}/", HEADERS, b"{}", owner=OWNER, timeout=5)
    await sender.close()
    assert isinstance(result, TransportFailure)
    assert result.reason is Reason.INVALID_TLS_HANDSHAKE
