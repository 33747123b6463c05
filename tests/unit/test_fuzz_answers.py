"""Answers by chance, in pieces by chance: an answer, or what the reader says it raises."""

import asyncio
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.http_client.answers import MAX_BODY_BYTES, AnswerReader, NotHttp
from event_platform.adapters.https import HttpsSender
from event_platform.domain.attempts.outcomes import Answer, TransportFailure
from support.fuzzing import CASES, fuzzed
from support.records import OWNER
from support.servers import answers, serve

FEW = max(CASES // 3, 10)

LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 No\r\n", b"HTTP/1.1 100 Go on\r\n", b"HTTP/1.1 101 Go\r\n",
        b"HTTP/1.1 204\r\n", b"HTTP/1.1 304 \r\n", b"HTTP/2 200\r\n", b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
        b"Connection: close\r\n", b"Connection: keep-alive, upgrade\r\n", b"Upgrade: h2c\r\n", b"X-A: b\r\n",
        b" folded\r\n", b"X-Odd: \xff\x80\r\n", b"\r\n", b"\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n",
        b"a;x=y\r\n0123456789\r\n", b"0\r\nX-T: 1\r\n\r\n", b"ffffffffffffffff\r\n", b"\0", b"HTTP", b":",
    ]
)  # fmt: skip
BYTES = st.lists(LINES | st.binary(max_size=6), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True) if start < end]


def read(parts: Sequence[bytes]) -> Answer | str:
    """As a connection does it, up to the end of what is sent."""
    reader = AnswerReader()
    try:
        for part in parts:
            reader.feed(part)
            if reader.answer is not None:
                break
        else:
            reader.end()
    except (NotHttp, EOFError) as error:
        assert not reader.is_reusable
        return type(error).__name__
    assert reader.answer is not None
    return reader.answer


@fuzzed(CASES * 4)
@given(BYTES, CUTS)
@example(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1), [100])
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(data: bytes, cuts: list[int]) -> None:
    result = read([data])
    assert read(pieces(data, cuts)) == result
    assert read([bytes([byte]) for byte in data[:400]]) == read([data[:400]])
    if isinstance(result, Answer):
        assert 0 <= result.status <= 999
        assert len(result.body) <= MAX_BODY_BYTES
        assert not any("\n" in text or "\0" in text for text in result.headers.values())
        "".join(result.headers.values()).encode()


@fuzzed(FEW)
@given(BYTES, CUTS)
def test_whatever_a_receiver_answers_is_an_answer_or_a_failure(data: bytes, cuts: list[int]) -> None:
    async def posted() -> None:
        steps: list[bytes | float] = []
        for piece in pieces(data, cuts):
            steps += [piece, 0]
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(answers(*steps)) as server:
            for _ in range(2):
                result = await sender.post(server.url(), [], b"{}", owner=OWNER, timeout=5)
                assert isinstance(result, Answer | TransportFailure)
            await sender.close()
        assert not told

    asyncio.run(posted())
