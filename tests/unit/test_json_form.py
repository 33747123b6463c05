"""JSON as JavaScript reads and writes it: recorded vectors, and a real JavaScript beside ours."""

import json
import math
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from event_platform.domain.events import json_form
from event_platform.domain.events.json_form import IntegerTooLarge, MalformedJson
from support.components import require
from support.cpu import cpu_seconds

VECTORS = [
    (vector["text"], vector["javascript"])
    for vector in json.loads(Path(__file__).with_name("json_form_vectors.json").read_bytes())
]
LARGEST = 2**53 - 1


def rewritten(text: bytes, *, round_integers: bool = False) -> bytes:
    """As the platform reads and writes it, in the faster way where that is allowed."""
    value = json_form.parse(text, round_integers=round_integers)
    return json_form.stringify(value, plain=json_form.is_plain(text))


# --- texts -------------------------------------------------------------------------------------------

_escapes = st.one_of(
    st.sampled_from(['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]),
    st.integers(0, 0xFFFF).map(lambda unit: f"\\u{unit:04x}"),
    st.integers(0xD800, 0xDFFF).map(lambda unit: f"\\u{unit:04X}"),
    st.integers(0x30, 0x39).map(lambda unit: f"\\u{unit:04x}"),
)
_literals = st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters='"\\')
_strings = st.lists(_literals | _escapes, max_size=6).map(lambda pieces: f'"{"".join(pieces)}"')
_keys = (
    _strings | st.integers(-2, 2**32 + 1).map(lambda index: f'"{index}"') | st.sampled_from(['"01"', '"7"'])
)
_integers = st.integers(-LARGEST, LARGEST).map(str)
_floats = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.from_regex(
    r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?[eE][+-]?[0-9]{1,3}", fullmatch=True
).filter(lambda text: math.isfinite(float(text)))
_space = st.sampled_from(["", "", " ", "\n\t", "\r"])


def _containers(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    padded = st.tuples(_space, item, _space).map("".join)
    member = st.tuples(_keys, _space, padded).map(lambda parts: f"{parts[0]}{parts[1]}:{parts[2]}")
    return st.lists(padded, max_size=5).map(lambda items: f"[{','.join(items)}]") | st.lists(
        member, max_size=5
    ).map(lambda members: f"{{{','.join(members)}}}")


json_texts = st.recursive(
    _strings | _integers | _floats | st.sampled_from(["true", "false", "null", "-0"]),
    _containers,
    max_leaves=12,
)
_ordinary = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(),
    lambda item: st.lists(item) | st.dictionaries(st.text(), item),
    max_leaves=10,
)
ordinary_texts = _ordinary.map(lambda value: json.dumps(value, ensure_ascii=False))
nearly_json = st.text(alphabet='[]{}",:0123456789.eE+-truefalsn\\ud \n', max_size=12)

# --- JavaScript --------------------------------------------------------------------------------------

_PROGRAM = """
require("readline").createInterface({input: process.stdin}).on("line", line => {
  let answer = null;
  try { answer = JSON.stringify(JSON.parse(JSON.parse(line))) } catch (error) {}
  console.log(JSON.stringify(answer));
});
"""


class JavaScript:
    """One process of node that rewrites any number of texts."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def rewritten(self, text: str) -> bytes | None:
        """JSON.stringify(JSON.parse(text)); None when JavaScript refuses it."""
        self._in.write(json.dumps(text).encode() + b"\n")
        self._in.flush()
        answer = json.loads(self._out.readline())
        return None if answer is None else answer.encode()


@pytest.fixture(scope="module")
def javascript() -> Iterator[JavaScript]:
    require("node", node := shutil.which("node"))
    command = [str(node), "-e", _PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield JavaScript(process)


# --- what is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), VECTORS)
def test_a_text_is_rewritten_as_javascript_does(text: str, expected: str) -> None:
    assert rewritten(text.encode()) == expected.encode()


@pytest.mark.parametrize(("text", "expected"), VECTORS)
def test_what_was_rewritten_stays_as_it_is(text: str, expected: str) -> None:
    assert rewritten(expected.encode(), round_integers=True) == expected.encode()


def test_the_recorded_vectors_are_those_of_a_real_javascript(javascript: JavaScript) -> None:
    assert {text: javascript.rewritten(text) for text, _ in VECTORS} == {
        text: expected.encode() for text, expected in VECTORS
    }


@given(text=json_texts)
@settings(max_examples=300, deadline=None)
def test_any_text_is_rewritten_as_a_real_javascript_does(javascript: JavaScript, text: str) -> None:
    assert rewritten(text.encode()) == javascript.rewritten(text)


@given(text=nearly_json | json_texts)
@settings(max_examples=300, deadline=None)
@example("1e400")
@example("9007199254740993")
@example("9" * 5000)
def test_the_relay_reads_what_a_real_javascript_reads(javascript: JavaScript, text: str) -> None:
    try:
        ours = rewritten(text.encode(), round_integers=True)
    except MalformedJson:
        ours = None
    assert ours == javascript.rewritten(text)


@given(text=json_texts | ordinary_texts)
@settings(max_examples=300, deadline=None)
def test_the_fast_writer_is_allowed_only_where_it_writes_what_the_careful_one_does(text: str) -> None:
    source = text.encode()
    value = json_form.parse(source)
    assert json_form.stringify(value, plain=json_form.is_plain(source)) == json_form.stringify(value)


@given(text=json_texts | ordinary_texts | nearly_json)
@settings(max_examples=300, deadline=None)
@example("-0")
@example('{"a":1,"b":2,"a":3}')
@example("\ufeff1")
def test_the_fast_reader_reads_and_refuses_what_the_careful_one_does(text: str) -> None:
    source = text.encode()

    def read(*, plain: bool) -> str:
        try:
            return repr(json_form.parse(source, plain=plain))
        except MalformedJson as error:
            return str(error)

    assert read(plain=json_form.is_plain(source)) == read(plain=False)


@pytest.mark.parametrize(
    "text",
    [
        '{"product":{"uuid":"00000000-0000-4000-8000-000000000001","n":12,"é":"\\n"},"x":[true,null]}',
        '{"uuid":"5c0e8b1e-0d1e-4f7e-9e3e-2e6e1e4e8e0e","time":"2026-11-24T10:00:45.125Z"}',
        '{"text":"1.5 \\" 2.5 \\\\","key":"1234567890123456"}',
    ],
)
def test_an_ordinary_text_takes_the_fast_reader_and_writer(text: str) -> None:
    assert json_form.is_plain(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "1.0",
        "[1e5]",
        '{"a":"\\"","b":1.5}',
        '{"a":"\\\\","b":[-1234567890123456]}',
        '{"1" :0}',
        '"\\ud83d"',
        "1E5",
    ],
)
def test_a_text_that_javascript_may_write_differently_takes_the_careful_ones(text: str) -> None:
    assert not json_form.is_plain(text.encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.inf, "null"),
        (-math.inf, "null"),
        (math.nan, "null"),
        (-0.0, "0"),
        (1e21, "1e+21"),
        (1e20, "1" + "0" * 20),
    ],
)
def test_a_number_that_json_has_no_word_for_is_null(value: float, expected: str) -> None:
    assert json_form.number(value) == expected


# --- what is refused ---------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"[" * (levels % 2) + b"]" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON at line 1, column 1: a value is expected"),
        (b" \n", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{} x", "not JSON at line 1, column 4: the value ends before it"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"[1,]", "not JSON"),
        (b"01", "not JSON"),
        (b"+1", "not JSON"),
        (b".5", "not JSON"),
        (b"5.", "not JSON"),
        (b"0x10", "not JSON"),
        (b"TRUE", "not JSON"),
        (b"\xc2\xa01", "not JSON"),
        ("\u0661".encode(), "not JSON"),
        (b'"\x1f"', "not JSON"),
        (b'"\\x41"', "not JSON"),
        (b'"\\u00g0"', "not JSON"),
        (b"NaN", "NaN is no number"),
        (b"[Infinity]", "Infinity is no number"),
        (b"-Infinity", "-Infinity is no number"),
        (b'"\xff"', "not UTF-8 from byte 1 on"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        ('"a"'.encode("utf-16"), "not"),
        (nested(201), "nested deeper than 200 levels"),
        (b"[" * 100_000, "nested deeper than 200 levels"),
    ],
)
@pytest.mark.parametrize("round_integers", [False, True])
def test_what_is_no_json_is_malformed(text: bytes, message: str, round_integers: bool) -> None:
    with pytest.raises(MalformedJson, match=message):
        json_form.parse(text, round_integers=round_integers)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b"9007199254740992", IntegerTooLarge, "9007199254740992, beyond"),
        (b"-9007199254740992", IntegerTooLarge, "-9007199254740992, beyond"),
        (b"[18446744073709551616]", IntegerTooLarge, "beyond"),
        (b"9" * 5000, IntegerTooLarge, "beyond"),
        (b"1e309", MalformedJson, "1e309, which is too large"),
        (b"[-1.8e308]", MalformedJson, "-1.8e308, which is too large"),
        (b"1e99999", MalformedJson, "is too large"),
    ],
)
def test_a_number_that_javascript_cannot_hold_is_refused(
    text: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        json_form.parse(text)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"9007199254740993", b"9007199254740992"),
        (b"-9007199254740993", b"-9007199254740992"),
        (b"123456789012345678901234567890", b"1.2345678901234568e+29"),
        (b"9" * 5000, b"null"),
        (b"1e309", b"null"),
    ],
)
def test_on_the_relay_a_number_is_rounded_as_javascript_does(text: bytes, expected: bytes) -> None:
    assert rewritten(text, round_integers=True) == expected


def test_every_truncated_text_is_malformed() -> None:
    text = '{"a":[1.5,"x\\u00e9\\n\u20ac"],"b":{"c":null,"d":-2e3}}'.encode()
    assert json_form.parse(text)
    for length in range(len(text)):
        with pytest.raises(MalformedJson):
            json_form.parse(text[:length])


@given(text=st.binary(max_size=40) | nearly_json.map(str.encode))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_json_or_malformed_and_nothing_else(text: bytes) -> None:
    for round_integers in (False, True):
        try:
            value = json_form.parse(text, round_integers=round_integers)
        except MalformedJson:
            continue
        json_form.stringify(value)


# --- nesting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        nested(200),
        b"[" + b",".join([nested(199)] * 50) + b"]",
        b"[" + b",".join([b"[]", b"{}"] * 1000) + b"]",
        b'"' + b"[" * 1000 + b'"',
        b'["' + rb"\"[" * 1000 + rb"\\" + b'",[]]',
    ],
)
def test_only_nesting_is_limited_and_not_the_number_of_brackets(text: bytes) -> None:
    assert rewritten(text) == text


@pytest.mark.parametrize(("before", "after"), [(b'"]"', b'"["'), (b'"\\"]"', b'"[\\""')])
def test_brackets_in_strings_hide_no_nesting(before: bytes, after: bytes) -> None:
    text = (b"[" + before + b",") * 201 + b"0" + (b"," + after + b"]") * 201
    assert not json_form.is_plain(text)
    with pytest.raises(MalformedJson, match="deeper than 200"):
        json_form.parse(text)


def test_nesting_is_looked_for_in_little_time() -> None:
    """Reads a million brackets, which a glance does not settle; it took more than a second."""
    text = (b"[" * 199 + b"]" * 199) * 2500
    assert cpu_seconds(lambda: json_form._check_depth(text, 200)) < 0.5


def test_looking_for_nesting_takes_no_memory_for_long_strings() -> None:
    text = b'["' + b"a" * 1_000_000 + b'"' + b",[]" * 250 + b"]"
    tracemalloc.start()
    try:
        json_form.parse(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(text)


# --- lone surrogates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "replaced"),
    [
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        (["x", ["\udc00"]], ["x", ["\ufffd"]]),
        ({"a": {"\ud800": 1}}, {"a": {"\ufffd": 1}}),
        ({"a": ["\ud800\ud800"]}, {"a": ["\ufffd\ufffd"]}),
    ],
)
def test_lone_surrogates_are_found_and_replaced_wherever_they_are(value: Any, replaced: Any) -> None:
    assert json_form.has_lone_surrogates(value)
    assert json_form.replace_lone_surrogates(value) == replaced
    assert not json_form.has_lone_surrogates(replaced)


@pytest.mark.parametrize("value", ["", "\U0001f600", {"a": [1, 1.5, None, True, "\uffff"]}])
def test_whole_characters_are_no_lone_surrogates(value: Any) -> None:
    assert not json_form.has_lone_surrogates(value)
    assert json_form.replace_lone_surrogates(value) == value


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("digits", range(1, 24))
def test_an_integer_of_any_length_is_written_as_a_relayed_one_is_read(sign: str, digits: int) -> None:
    text = f"{sign}1{'0' * (digits - 1)}".encode()
    value = json_form.parse(text, round_integers=True)
    written = json_form.stringify(value, plain=json_form.is_plain(text))
    assert written == json_form.stringify(value)
    assert written == (text if digits <= 21 else f"{sign}1e+{digits - 1}".encode())


@given(text=json_texts | ordinary_texts)
def test_no_value_is_left_out_when_values_are_counted(text: str) -> None:
    number = _count(json_form.parse(text.encode(), round_integers=True))
    assert json_form.has_more_values(text.encode(), number - 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"1", 1), (b"[1,2,[]]", 4), (b'{"a,[":"\\",[{","b":"\\\\"}', 3), (b'["\\\\",{"a":1}]', 4)],
)
def test_values_of_a_text_are_counted(text: bytes, number: int) -> None:
    json_form.parse(text)
    assert json_form.has_more_values(text, number - 1)
    assert not json_form.has_more_values(text, number + 1)  # an empty array counts twice


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1
