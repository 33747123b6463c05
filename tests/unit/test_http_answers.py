"""Bounds of the HTTP client's reader; what it makes of answers is in the suite of `Sender`."""

import pytest

from event_platform.adapters.http_client.answers import MAX_HEAD_BYTES, AnswerReader, NotHttp

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
ONE_LONG = b"HTTP/1.1 200 OK\r\nX-A: %b\r\nContent-Length: 0\r\n\r\n"
OK = ONE_LONG % b"x"


def head(length: int) -> bytes:
    return ONE_LONG % (b"x" * (length - len(ONE_LONG) + 2))


@pytest.mark.parametrize("cut", [0, 10, MAX_HEAD_BYTES // 2, MAX_HEAD_BYTES - 10])
@pytest.mark.parametrize(
    "answer", [head(MAX_HEAD_BYTES + 40), INTERIM * (2 * MAX_HEAD_BYTES // len(INTERIM)) + OK]
)
def test_a_head_that_is_too_large_is_no_answer_in_whatever_pieces(answer: bytes, cut: int) -> None:
    reader = AnswerReader()
    reader.feed(answer[:cut])
    with pytest.raises(NotHttp):
        reader.feed(answer[cut:])
    assert reader.answer is None


@pytest.mark.parametrize("cut", [0, 10, MAX_HEAD_BYTES // 2])
def test_a_head_may_be_large(cut: int) -> None:
    reader, answer = AnswerReader(), head(MAX_HEAD_BYTES)
    for piece in (answer[:cut], answer[cut:]):
        reader.feed(piece)
    assert reader.answer is not None
    assert reader.is_reusable
