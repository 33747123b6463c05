"""No text for people holds the words of libraries or of our own inside.

All problems that a test has found in an input, all answers with an error in this process, what attempts fail
of (which subscribers read in their log), those of the table of wrong requests, and what commands write to
standard error are looked at: so all tables of wrong input are.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from event_platform import http
from event_platform.domain.attempts.outcomes import Refusal, TransportFailure
from event_platform.domain.errors import InvalidRequest, Problem

FORBIDDEN = {
    "a word of pydantic": r"Value error|Assertion failed|Input should|Field required|Extra inputs|pydantic",
    "a word of typer": (
        r"No such (?:option|command)|Invalid value for|Missing (?:argument|option|parameter|command)"
        r"|Possible options|unexpected extra argument|requires an argument|does not take a value"
    ),
    "a word of asyncio": r"ssl:default|\[Errno|Connect call failed|Cannot connect to host",
    "a word of jsonschema": (
        r"is not of types? \"|is a required property|is not one of \"|False schema"
        r"|is not valid under|was expected$"
        r"|(?:Additional|Unevaluated) (?:properties|items) are|does not match \""
        r"|is (?:shorter|longer) than \d"
        r"|(?:less|greater) than the (?:min|max)imum|present in a registry|Pointer '|is not a \"[a-z-]+\"$"
    ),
    "a word of a reader of JSON": (
        r"Expecting |Extra data|Unterminated string|Invalid control|Invalid \\"
        r"|\(char \d|unexpected (?:end|char|con)"
        r"|input data is empty|Input is a zero|trailing comma is|expected value at line|Invalid JSON"
    ),
    "a word of a codec": r"invalid (?:start|continuation) byte|codec can't|ordinal not in",
    "a word of email_validator": r"@-sign|[Aa]n? email address|The (?:part|email) |special-use",
    "a word of urllib, idna or datetime": (
        r"Port out of range|Port could not|Invalid IPv6|Codepoint|under NFKC"
        r"|out of range for month|must be in \d+\.\."
        r"|Invalid isoformat|does not appear to be an IPv"
    ),
    "a word of OpenSSL": (
        r"(?i)local issuer|wrong version number|hostname mismatch|self.signed cert|certificate verify failed"
        r"|alert (?:handshake|protocol|internal)|record layer|sslv3|tlsv1"
    ),
    "a word of SQLite": (
        r"file is not a database|disk image is malformed|database or disk is full|disk I/O error"
        r"|unable to open database|database is locked|readonly database|no such table"
    ),
    "the name of an exception": r"\b(?:[A-Z][a-z]+)+(?:Error|Exception)\b|Traceback",
    "a regular expression": r"\^\[|\[A-Za-z|\[a-z0-9|\[0-9a-f|\]\+\$|\{1,\d+\}\$",
    "an object of Python": r"<class |object at 0x",
    "a plural of one": r"(?<![\d.,])\b1 (?:events|subscriptions|subscribers|deliveries|attempts|keys|PIMs)\b",
    "a temporary name": r"(?:secrets\.key|pims\.json)\w{6,}",
    "a sentence with two verbs": r"the body is the (?:integer|number)",
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in FORBIDDEN.items()}


def faults_of(text: str) -> list[str]:
    """Returns what people cannot be expected to understand of a text; lines of the log may hold it."""
    said = "\n".join(line for line in text.splitlines() if not line.startswith("{"))
    return [f"{what}: {said[:500]}" for what, pattern in _PATTERNS.items() if pattern.search(said)]


def check_words(text: str) -> None:
    """Fails the test if the text is not for people."""
    assert not (faults := faults_of(text)), faults


@pytest.fixture(autouse=True)
def texts_are_for_people(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks at the problems and the answers that come about in this process while a test runs."""
    texts: dict[str, None] = {}  # looked at when the test is over: the event loop would wait for that
    make, answer = InvalidRequest.__init__, http.error_response

    def made(self: InvalidRequest, *problems: Problem) -> None:
        make(self, *problems)
        texts.update((problem.message, None) for problem in problems)

    def answered(status: int, *problems: Problem, **more: Any) -> Any:
        texts.update((problem.message, None) for problem in problems)
        return answer(status, *problems, **more)

    def watch(result: type[Refusal] | type[TransportFailure]) -> None:
        begin = result.__init__

        def failed(self: Any, *args: Any, **more: Any) -> None:
            begin(self, *args, **more)
            texts[self.detail] = None

        monkeypatch.setattr(result, "__init__", failed)

    for result in (Refusal, TransportFailure):
        watch(result)
    monkeypatch.setattr(InvalidRequest, "__init__", made)
    monkeypatch.setattr(http, "error_response", answered)
    yield
    faults = [fault for text in texts for fault in faults_of(text)]
    assert not faults, faults[:5]
