"""Servers on 127.0.0.1 that play a script over real sockets: TCP and TLS byte by byte, and DNS."""

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """What came to a scripted server."""

    port: int
    scheme: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list[bytes])
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client's end of a connection is gone."""

    _news: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def note(self, request: bytes) -> None:
        self.requests.append(request)
        self._news.set()

    async def received(self, count: int) -> None:
        """Waits until that many requests came."""
        while len(self.requests) < count:
            self._news.clear()
            await self._news.wait()

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@dataclass
class Peer:
    """The server's side of one connection."""

    server: Server
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Reads one whole request and notes it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        request = head + await self.reader.readexactly(length)
        self.server.note(request)
        return request

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():  # uvloop's own answer to writing then is no ConnectionError
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def until_hung_up(self) -> int:
        """Reads on until the client is gone; how many bytes came."""
        count = 0
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                count += len(data)
        self.server.hung_up.set()
        return count

    async def refuse_tls(self, context: ssl.SSLContext) -> None:
        """Ends a handshake that can't succeed with an alert, and waits until the client is gone.

        With TLS 1.3 the alert comes when the client has done its part and may have sent its request.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(outgoing.read())
                incoming.write(await self.reader.read(65536))
            except ssl.SSLError:
                break
        await self.send(outgoing.read())
        await self.until_hung_up()

    def cut_off(self) -> None:
        """Ends our direction of the connection by a FIN alone, without TLS's own end (RFC 8446 6.1)."""
        opened: socket.socket = self.writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(opened.fileno())) as same:
            same.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with an RST."""
        opened: socket.socket = self.writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Play = Callable[[Peer], Awaitable[None]]


def answers(*steps: bytes | float, keep: bool = False) -> Play:
    """Answers a request with bytes and pauses, then closes; with `keep` it goes on with the next request."""

    async def play(peer: Peer) -> None:
        while True:
            await peer.request()
            for step in steps:
                await (peer.send(step) if isinstance(step, bytes) else asyncio.sleep(step))
            if not keep:
                return

    return play


@contextlib.asynccontextmanager
async def serve(
    play: Play, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """A server that plays to each connection, and closes it when the play is over."""
    tasks: set[asyncio.Task[None]] = set()
    told: list[BaseException] = []

    async def perform(peer: Peer) -> None:
        try:
            await play(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            server.hung_up.set()
        finally:
            peer.writer.close()

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            told.append(error)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.create_task(perform(Peer(server, server.connections, reader, writer)))
        tasks.add(task)
        task.add_done_callback(done)

    listener = await asyncio.start_server(connected, host, port, ssl=tls)
    server = Server(listener.sockets[0].getsockname()[1], "http" if tls is None else "https")
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if told:
        raise told[0]


class Certificates:
    """Servers' TLS contexts with good and bad certificates for 127.0.0.1, and a client's in `trust`."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.trust = ssl.create_default_context()
        self.authority.configure_trust(self.trust)

    def good(self, *names: str) -> ssl.SSLContext:
        return self._context(self.authority.issue_cert("127.0.0.1", *names))

    def wrong_name(self) -> ssl.SSLContext:
        return self._context(self.authority.issue_cert("hooks.example.org"))

    def expired(self) -> ssl.SSLContext:
        now = datetime.now(UTC)
        return self._context(
            self.authority.issue_cert(
                "127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
            )
        )

    def name_without_san(self, name: str = "hooks.example.org") -> ssl.SSLContext:
        """For the name as a common name alone."""
        authority = x509.load_pem_x509_certificate(self.authority.cert_pem.bytes())
        authority_key = serialization.load_pem_private_key(self.authority.private_key_pem.bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .issuer_name(authority.subject)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(authority_key, hashes.SHA256())
        )
        return self._context(_leaf(key, certificate))

    def unknown_authority(self) -> ssl.SSLContext:
        return self._context(trustme.CA().issue_cert("127.0.0.1"))

    def self_signed(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        return self._context(_leaf(key, certificate))

    def asking_for_a_client_certificate(self) -> ssl.SSLContext:
        context = self.good()
        context.verify_mode = ssl.CERT_REQUIRED
        self.authority.configure_trust(context)
        return context

    def _context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


def _leaf(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> trustme.LeafCert:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return trustme.LeafCert(private, certificate.public_bytes(pem), [])


EVERY_NAME = "*"


class DnsServer(asyncio.DatagramProtocol):
    """Answers A and AAAA questions, never to be cached. A name has rounds of answers; the last round stays.

    A name without rounds does not exist; one that is `silent` is never answered, and one that is `failing`
    is answered SERVFAIL. EVERY_NAME stands for all of them.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[Sequence[str]]],
        *,
        silent: Sequence[str] = (),
        failing: Sequence[str] = (),
    ) -> None:
        self._names = names
        self._silent = frozenset(silent)
        self._failing = frozenset(failing)
        self.asked: dict[tuple[str, int], int] = {}
        self.port = 0

    async def __aenter__(self) -> "DnsServer":
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, question = _question_of(data)
        number = self.asked.get((name, kind), 0)
        self.asked[name, kind] = number + 1
        if not self._silent.isdisjoint({name, EVERY_NAME}):
            return
        rounds = self._names.get(name)
        version = {1: 4, 28: 6}.get(kind)
        chosen = rounds[min(number, len(rounds) - 1)] if rounds else ()
        found = [address for address in map(ipaddress.ip_address, chosen) if address.version == version]
        failing = not self._failing.isdisjoint({name, EVERY_NAME})
        flags = 0x8182 if failing else 0x8180 if rounds else 0x8183  # SERVFAIL, a recursive answer, NXDOMAIN
        head = data[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(address.packed)) + address.packed
            for address in found
        )
        self._transport.sendto(head + question + records, addr)


def _question_of(packet: bytes) -> tuple[str, int, bytes]:
    """Name, type and bytes of a packet's question (RFC 1035 4.1.2)."""
    labels: list[str] = []
    at = 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    return ".".join(labels), int.from_bytes(packet[at + 1 : at + 3], "big"), packet[12 : at + 5]
