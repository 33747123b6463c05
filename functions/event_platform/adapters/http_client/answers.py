"""What comes back: one answer, from bytes as they come. No I/O."""

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from ...domain.outcomes import Answer

MAX_HEAD_BYTES = 64 * 1024
"""Of status line and headers, with those of the interim answers (1xx) before."""
MAX_BODY_BYTES = 64 * 1024
_MAX_BYTES = MAX_HEAD_BYTES + 8 * MAX_BODY_BYTES
"""Of an answer on the wire: a chunk of a few bytes comes with as many around it, and has extensions."""
_SWITCHING_PROTOCOLS = 101
_SHORTEST_HEAD = len(b"HTTP/1.1 200\r\n\r\n")


class NotHttp(Exception):
    """Raised when what comes is no answer of HTTP/1, or its head is too large."""


class AnswerReader:
    """Reads the answer to one request; `answer` is set when it is complete.

    Of a longer body it is complete with MAX_BODY_BYTES. Takes what most servers' sloppiness comes to: bare
    line feeds, folded headers, spaces after a chunk's size. Trailers are left out (RFC 9110 6.5.1).
    """

    __slots__ = (
        "_has_head", "_head_size", "_headers", "_keeps", "_parser", "_parts", "_size", "_status", "answer",
        "is_reusable", "received",
    )  # fmt: skip

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.is_reusable = False
        """Whether the connection is fit for another request: just this answer came, and it is to be kept."""
        self.received = 0
        self._has_head = False
        self._head_size = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._keeps = False
        self._parts: list[bytes] = []
        self._size = 0
        # A parser for each answer, so that nothing of one gets into the next: it costs 0.3 µs.
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises NotHttp; not to be called again then, nor when it is complete."""
        parser = self._parser
        if parser is None:
            raise RuntimeError("the answer is complete")
        self.received += len(data)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:  # after a 101 that names what it switches to
            self.is_reusable = False
        except HttpParserCallbackError as error:
            raise error.__context__ or error  # noqa: B904 - what a method below raised
        except HttpParserError as error:
            self.is_reusable = False
            if self.answer is None:
                raise NotHttp(str(error)) from error
        if self.answer is not None:
            self.release()
        elif not self._has_head:
            self._check_head(self.received)
        elif self._size >= MAX_BODY_BYTES or self.received > _MAX_BYTES:
            self._complete()

    def end(self) -> None:
        """The peer sends no more. Raises EOFError when that leaves the answer incomplete."""
        if self.answer is None and not (self._has_head and self._lasts_until_the_end()):
            raise EOFError
        self.is_reusable = False
        if self.answer is None:
            self._complete()

    def release(self) -> None:
        """Lets go of the parser, which knows us as we know it. No more is to be read."""
        self._parser = None

    # What the parser calls

    def on_message_begin(self) -> None:
        """Of an answer that follows, too: to a request that wasn't sent."""
        if self.answer is not None:
            self.is_reusable = False
        self._head_size += _SHORTEST_HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """Joins repeated ones (RFC 9110 5.3), in characters that every log can hold."""
        if self._has_head:
            return  # a trailer
        self._head_size += len(name) + len(value) + 4
        self._check_head(self._head_size)
        if b"\0" in value:
            raise NotHttp("a header holds NUL")
        lower = name.decode("latin-1").lower()
        text = value.decode(errors="replace").strip(" \t")
        headers = self._headers
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text

    def on_headers_complete(self) -> None:
        if self.answer is None and self._parser is not None:
            self._has_head = True
            self._status = self._parser.get_status_code()
            self._keeps = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if self.answer is None:
            self._parts.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self.answer is not None:
            return
        if 100 <= self._status <= 199 and self._status != _SWITCHING_PROTOCOLS:
            self._has_head = False
            self._headers = {}
        else:
            self._complete()
            self.is_reusable = self._keeps

    def _complete(self) -> None:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.answer = Answer(self._status, self._headers, body[:MAX_BODY_BYTES])

    def _check_head(self, size: int) -> None:
        if size > MAX_HEAD_BYTES:
            raise NotHttp("the headers are too large")

    def _lasts_until_the_end(self) -> bool:
        """RFC 9112 6.3, for an answer whose head is complete and which is not complete with it."""
        coding = self._headers.get("transfer-encoding")
        if coding is not None:
            return coding.rpartition(",")[2].strip().lower() != "chunked"
        return "content-length" not in self._headers
