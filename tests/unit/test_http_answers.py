"""Bounds of the HTTP client's reader, of bytes and of work; what answers mean is in the suite of `Sender`."""

import time
from collections.abc import Iterator

import pytest

from event_platform.adapters.http_client.answers import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEAD_LINES,
    MAX_PIECES,
    AnswerReader,
    NotHttp,
)
from event_platform.domain.attempts.outcomes import Answer

READ_AT_ONCE = 256 * 1024
"""What uvloop hands to a protocol in one call."""
ONE_CALL = 0.02
"""CPU seconds that a call may take, by a wide margin: each of these takes less than half a millisecond."""

BEGIN = b"HTTP/1.1 200 OK\r\n"
CHUNKED = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
PARTS_OF_ONE_KIB = 1024 // 3

COSTLY_HEADS = {
    "header lines": BEGIN + b"a:\n" * 17_000 + b"\n",
    "a header again and again": BEGIN + b"Retry-After:1\n" * 4000 + b"\n",
    "a folded header": BEGIN + b"a: b\n" + b" x\n" * 20_000 + b"\n",
    "a long header, folded": BEGIN + b"a: " + b"y" * 40_000 + b"\n" + b" x\n" * 7000 + b"\n",
    "interim answers": b"HTTP/1.1 100\n\n" * 4500,
    "interim answers with headers": b"HTTP/1.1 103 x\nL:x\n\n" * 3000,
}
COSTLY_BODIES = {
    "chunks of a byte": CHUNKED + b"1\r\nx\r\n" * 96_000,
    "chunks with extensions": CHUNKED + b"1;a=b;c=d\r\nx\r\n" * 40_000,
    "an extension": CHUNKED + b"1;" + b"x" * 500_000,
    "trailers": CHUNKED + b"1\r\nx\r\n0\r\n" + b"a:\n" * 190_000,
    "a folded trailer": CHUNKED + b"1\r\nx\r\n0\r\na:b\n" + b" x\n" * 190_000,
    "a long body": BEGIN + b"\r\n" + b"x" * 1_000_000,
}

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
ONE_LONG = b"HTTP/1.1 200 OK\r\nX-A: %b\r\nContent-Length: 0\r\n\r\n"
OK = ONE_LONG % b"x"


def head(length: int) -> bytes:
    return ONE_LONG % (b"x" * (length - len(ONE_LONG) + 2))


def feed_all(reader: AnswerReader, *pieces: bytes) -> None:
    for piece in pieces:
        reader.feed(piece)


@pytest.mark.parametrize("cut", [0, 10, MAX_HEAD_BYTES // 2, MAX_HEAD_BYTES - 10])
@pytest.mark.parametrize(
    "answer", [head(MAX_HEAD_BYTES + 40), INTERIM * (2 * MAX_HEAD_BYTES // len(INTERIM)) + OK]
)
def test_a_head_that_is_too_large_is_no_answer_in_whatever_pieces(answer: bytes, cut: int) -> None:
    reader = AnswerReader()
    with pytest.raises(NotHttp):
        feed_all(reader, answer[:cut], answer[cut:])
    assert reader.answer is None


@pytest.mark.parametrize("cut", [0, 10, MAX_HEAD_BYTES // 2])
def test_a_head_may_be_large(cut: int) -> None:
    reader, answer = AnswerReader(), head(MAX_HEAD_BYTES)
    feed_all(reader, answer[:cut], answer[cut:])
    assert reader.answer is not None
    assert reader.is_reusable


class CountedReader(AnswerReader):
    """Counts what the parser calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls += 1
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self.calls += 1
        super().on_body(body)

    def on_message_begin(self) -> None:
        self.calls += 1
        super().on_message_begin()


def fed(reader: AnswerReader, data: bytes, size: int = READ_AT_ONCE) -> Iterator[float]:
    """Feeds the data until the answer is complete; the CPU time of each call."""
    for start in range(0, len(data), size):
        began = time.thread_time()
        reader.feed(data[start : start + size])
        yield time.thread_time() - began
        if reader.answer is not None:
            return


@pytest.mark.parametrize("data", COSTLY_HEADS.values(), ids=COSTLY_HEADS.keys())
def test_a_head_of_many_parts_is_no_answer_and_costs_little(data: bytes) -> None:
    reader, began = CountedReader(), time.thread_time()
    with pytest.raises(NotHttp):
        list(fed(reader, data))
    assert time.thread_time() - began < ONE_CALL
    assert reader.calls <= MAX_HEAD_LINES + PARTS_OF_ONE_KIB


@pytest.mark.parametrize("data", COSTLY_BODIES.values(), ids=COSTLY_BODIES.keys())
def test_a_body_of_many_parts_is_left_alone_and_its_status_counts(data: bytes) -> None:
    reader = CountedReader()
    assert max(fed(reader, data)) < ONE_CALL
    assert reader.answer is not None
    assert (reader.answer.status, reader.is_reusable) == (200, False)
    assert reader.calls <= MAX_PIECES + 9 * PARTS_OF_ONE_KIB


@pytest.mark.parametrize("data", [*COSTLY_HEADS.values(), *COSTLY_BODIES.values()])
def test_packets_of_a_byte_are_read_so_often_and_no_more(data: bytes) -> None:
    reader, calls = AnswerReader(), 0
    try:
        for _ in fed(reader, data, 1):
            calls += 1
    except NotHttp:
        pass
    assert calls <= MAX_PIECES + 1


def test_an_ordinary_answer_of_some_size_is_read_whole() -> None:
    head = BEGIN + b"".join(b"X-Header-%d: %s\r\n" % (number, b"v" * 80) for number in range(100))
    chunks = b"".join(b"80\r\n%s\r\n" % (b"x" * 128) for _ in range(400)) + b"0\r\nServer-Timing: a\r\n\r\n"
    reader = AnswerReader()
    list(fed(reader, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, 1400))
    assert reader.answer == Answer(200, {}, b"x" * 128 * 400)
    assert reader.is_reusable


@pytest.mark.parametrize("size", [1024, READ_AT_ONCE])
def test_more_than_one_answer_in_one_read_is_one_answer(size: int) -> None:
    reader = AnswerReader()
    list(fed(reader, (BEGIN + b"Content-Length: 2\r\nX-A: " + b"x" * 2000 + b"\r\n\r\nok") * 2, size))
    assert reader.answer == Answer(200, {}, b"ok")
    assert size < READ_AT_ONCE or not reader.is_reusable


def test_a_chunk_and_what_is_around_it_may_come_in_packets_of_their_own() -> None:
    reader = AnswerReader()
    reader.feed(CHUNKED)
    for _ in range(100):
        for packet in (b"80\r\n", b"x" * 128, b"\r\n"):
            reader.feed(packet)
    reader.feed(b"0\r\n\r\n")
    assert reader.answer == Answer(200, {}, b"x" * 12_800)
    assert reader.is_reusable


@pytest.mark.parametrize(
    ("coding", "lasts"),
    [(b"", True), (b"gzip", True), (b"gzip, Chunked ", False), (b"chunked", False)],
)
def test_what_a_body_without_a_length_ends_with(coding: bytes, lasts: bool) -> None:
    reader = AnswerReader()
    header = b"Transfer-Encoding: " + coding + b"\r\n" if coding else b""
    reader.feed(BEGIN + header + b"\r\n")
    if lasts:
        reader.end()
        assert reader.answer == Answer(200, {}, b"")
    else:
        with pytest.raises(EOFError):
            reader.end()


def test_the_bounds_are_what_the_documentation_says() -> None:
    assert (MAX_HEAD_BYTES, MAX_HEAD_LINES, MAX_BODY_BYTES, MAX_PIECES) == (65536, 256, 65536, 512)
