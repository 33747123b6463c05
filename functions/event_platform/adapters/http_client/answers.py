"""Reads one answer, from bytes as they come. No I/O."""

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from ...domain.attempts.outcomes import Answer

MAX_HEAD_BYTES = 64 * 1024
"""The largest status line and headers, with those of the interim answers (1xx) before."""
MAX_HEAD_LINES = 256
"""The lines of the same head; a line that goes on with a header (folded) counts, too."""
MAX_BODY_BYTES = 64 * 1024
MAX_PIECES = 512
"""Chunks of a body, and parts of an answer as they come from the network."""
_MAX_BYTES = MAX_HEAD_BYTES + 8 * MAX_BODY_BYTES
"""The largest answer on the wire: a chunk of a few bytes comes with as many around it, and has extensions."""
_PARSED_AT_ONCE = 1024
"""Bytes of a head or of chunks. What the parser does for each line or chunk cannot be stopped in between."""
_MAX_AROUND_CHUNKS = 8 * 1024
"""Bytes of such parts that hold nothing of the body, but sizes of chunks, extensions and trailers."""
_KEPT = frozenset({b"retry-after"})
"""The headers that somebody reads."""
_SWITCHING_PROTOCOLS = 101
_SHORTEST_HEAD = len(b"HTTP/1.1 200\r\n\r\n")


class NotHttp(Exception):
    """Raised when what comes is no answer of HTTP/1, or its head is too large."""


class AnswerReader:
    """Reads the answer to one request; `answer` is set when it is complete.

    Of a longer body it is complete with MAX_BODY_BYTES, and of one in too many pieces with what came. Takes
    what most servers' sloppiness comes to: bare line feeds, folded headers, spaces after a chunk's size.
    Trailers are left out (RFC 9110 6.5.1).

    A sender chooses how many lines, chunks and packets its answer has. Each of them costs a call or two of
    Python, so their numbers are bounded besides the bytes.
    """

    __slots__ = (
        "_around_chunks", "_ends_with_connection", "_has_head", "_head_bytes", "_head_lines", "_headers",
        "_is_chunked", "_keeps", "_parser", "_parts", "_reads", "_size", "_status", "answer", "is_reusable",
        "received",
    )  # fmt: skip

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.is_reusable = False
        """True if the connection can be used again: nothing but this answer came, and it is to be kept."""
        self.received = 0
        self._has_head = False
        self._head_bytes = 0
        self._head_lines = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._is_chunked = False
        self._ends_with_connection = True
        self._keeps = False
        self._parts: list[bytes] = []
        self._size = 0
        self._around_chunks = 0
        self._reads = 0
        # A parser for each answer, so that nothing of one gets into the next: it costs 0.3 µs.
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises NotHttp; not to be called again then, nor when it is complete."""
        self._reads += 1
        if len(data) <= _PARSED_AT_ONCE:
            self._parse(data)
            return
        rest = memoryview(data)
        while rest and self.answer is None:
            size = len(rest) if self._has_head and not self._is_chunked else _PARSED_AT_ONCE
            self._parse(rest[:size])
            rest = rest[size:]
        if rest:  # after the answer
            self.is_reusable = False

    def _parse(self, data: bytes | memoryview) -> None:
        parser = self._parser
        if parser is None:
            raise RuntimeError("the answer is complete")
        self.received += len(data)
        had_head, size_before = self._has_head, self._size
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
            self._head_lines += bytes(data).count(b"\n")
            self._check_head(self.received)
            if self._reads > MAX_PIECES:
                raise NotHttp("the headers come in too many pieces")
        else:
            if had_head and self._size == size_before:
                self._around_chunks += len(data)
            if self._is_enough():
                self._complete()

    def end(self) -> None:
        """The peer sends no more. Raises EOFError when that leaves the answer incomplete."""
        if self.answer is None and not (self._has_head and self._ends_with_connection):
            raise EOFError
        self.is_reusable = False
        if self.answer is None:
            self._complete()

    def release(self) -> None:
        """Lets go of the parser, which knows us as we know it. No more is to be read."""
        self._parser = None

    # What the parser calls

    def on_message_begin(self) -> None:
        """Counts an answer's head. A second answer is one to a request that was not sent."""
        if self.answer is not None:
            self.is_reusable = False
        self._head_bytes += _SHORTEST_HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps those that we use; joins repeated ones (RFC 9110 5.3), in characters that logs can hold."""
        if self._has_head:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + 4
        self._check_head(self._head_bytes)
        if b"\0" in value:
            raise NotHttp("a header holds NUL")
        name = name.lower()
        if name == b"transfer-encoding":
            # Only the last coding says where the body ends (RFC 9112 6.3).
            coding = value.rpartition(b",")[2].strip(b" \t")
            self._is_chunked = coding.lower() == b"chunked"
            self._ends_with_connection = not self._is_chunked
        elif name == b"content-length":
            self._ends_with_connection = False
        elif name in _KEPT:
            key, text = name.decode(), value.decode(errors="replace").strip(" \t")
            headers = self._headers
            headers[key] = f"{headers[key]}, {text}" if key in headers else text

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
            self._is_chunked, self._ends_with_connection = False, True
        else:
            self._complete()
            self.is_reusable = self._keeps

    def _complete(self) -> None:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.answer = Answer(self._status, self._headers, body[:MAX_BODY_BYTES])

    def _is_enough(self) -> bool:
        """True if no more is read of a body that is not complete."""
        return (
            self._size >= MAX_BODY_BYTES
            or len(self._parts) >= MAX_PIECES
            or self._reads > MAX_PIECES
            or self._around_chunks > _MAX_AROUND_CHUNKS
            or self.received > _MAX_BYTES
        )

    def _check_head(self, size: int) -> None:
        if size > MAX_HEAD_BYTES or self._head_lines > MAX_HEAD_LINES:
            raise NotHttp("the headers are too large")
