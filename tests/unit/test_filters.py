"""Filters: what is true of which event, what is no filter and how that is told, and why one matched."""

from typing import Any

import orjson
import pytest

from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.filters import (
    MAX_LENGTH,
    MAX_NESTING,
    MAX_OPERATORS,
    FilterError,
    explain,
    parse,
    predicate_of,
)

PRODUCT = "com.akeneo.pim.v1.product"
MODEL = "com.akeneo.pim.v1.product-model"
DELTA, MODEL_DELTA = f"{PRODUCT}.updated.delta", f"{MODEL}.updated.delta"


def event(event_type: str, data: dict[str, Any]) -> Event:
    return Event(
        "1", event_type, "2026-01-31T12:00:00Z", Facts(event_type, data), json_form.stringify(data), ()
    )


def example(event_type: str) -> Event:
    return event(event_type, catalog.load()[event_type].example)


def value(locale: str | None, scope: str | None) -> dict[str, Any]:
    return {"previous": None, "new": 1, "type": "pim_catalog_text", "locale": locale, "scope": scope}


def delta(*values: dict[str, Any], **by_attribute: Any) -> Event:
    """A product's update in which an attribute, or several, have these changed values."""
    return event(DELTA, {"product": {"changes": {"values": {"name": list(values), **by_attribute}}}})


def holds(expression: str, of: Event) -> bool:
    found = predicate_of(expression)(of.facts)
    assert explain(expression, of).matches is found
    return found


# In the catalog's example of a product's delta: author api "erp-sync-client-id"; name in en_US without scope,
# weight without either, in_stock for ecommerce without locale. In the model's: author job
# "nightly_catalog_import"; description in fr_FR for ecommerce.
TABLE = [
    ('user = "erp-sync-client-id"', DELTA, True),
    ('user = "erp-sync"', DELTA, False),
    ('user = "ERP-SYNC-CLIENT-ID"', DELTA, False),
    ('user_type = "api"', DELTA, True),
    ('user_type = "user"', DELTA, False),
    ('user_type in ["user", "api"]', DELTA, True),
    ('user_type in ["user"]', DELTA, False),
    ('user_type = "robot"', DELTA, False),
    ('user_type = "job"', MODEL_DELTA, True),
    ('user_type = "user"', "com.akeneo.pim.v1.category.updated", True),
    ('user_type = "user"', f"{PRODUCT}.became-complete", False),
    ('attribute = "name"', DELTA, True),
    ('attribute = "description"', DELTA, False),
    ('attribute = "description"', MODEL_DELTA, True),
    ('attribute = "family"', DELTA, False),
    ('attribute in ["a", "b", "weight"]', DELTA, True),
    ('not attribute = "name"', f"{PRODUCT}.updated", True),
    ('locale = "fr_FR"', DELTA, True),
    ('locale = "fr_FR"', MODEL_DELTA, True),
    ('locale = "en_US"', MODEL_DELTA, False),
    ('scope = "print"', DELTA, True),
    ('scope = "print"', MODEL_DELTA, False),
    ('scope = "ecommerce"', MODEL_DELTA, True),
    ('channel = "ecommerce"', MODEL_DELTA, True),
    ('channel in ["print", "mobile"]', MODEL_DELTA, False),
    ('scope = "ecommerce"', f"{PRODUCT}.became-complete", False),
    ('ready_on_scopes = "ecommerce"', f"{PRODUCT}.became-ready", True),
    ('ready_on_scopes = "print"', f"{PRODUCT}.became-ready", False),
    ('ready_on_scopes in ["print", "ecommerce"]', f"{MODEL}.became-ready", True),
    ('ready_on_scopes = "ecommerce"', f"{PRODUCT}.updated", False),
    ('not ready_on_scopes = "ecommerce"', f"{PRODUCT}.updated", True),
    # Fields are tested independently: no single value is a French description without scope.
    ('attribute = "name" and locale = "fr_FR" and scope = "ecommerce"', DELTA, True),
]


@pytest.mark.parametrize(("expression", "event_type", "expected"), TABLE)
def test_the_table_of_the_contract(expression: str, event_type: str, expected: bool) -> None:
    assert holds(expression, example(event_type)) is expected


@pytest.mark.parametrize("field", ["scope", "channel", "locale"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([value("a", "a")], True),
        ([value("b", "b")], False),
        ([value("b", "b"), value("a", "a")], True),
        ([value(None, None)], True),
        ([value("b", "b"), value(None, None)], True),
        ([{"previous": 1, "new": 2, "type": "pim_catalog_number"}], True),
    ],
)
def test_a_changed_value_without_scope_or_locale_fits_any(
    field: str, values: list[dict[str, Any]], expected: bool
) -> None:
    assert holds(f'{field} = "a"', delta(*values)) is expected
    assert holds(f'not {field} in ["a"]', delta(*values)) is not expected


def test_scope_and_locale_look_at_the_values_of_every_attribute() -> None:
    changed = delta(value("b", "b"), other=[value("c", "a")])
    assert holds('scope = "a" and locale = "b" and not locale = "a"', changed)


def test_an_attribute_counts_also_without_a_changed_value() -> None:
    assert holds('attribute = "name" and not locale = "a"', delta())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('user = "x" and user = "x" or user_type = "api"', True),
        ('user_type = "api" or user = "x" and user = "x"', True),
        ('(user_type = "api" or user = "x") and user = "x"', False),
        ('not user = "x" and user_type = "api"', True),
        ('not (user = "x" and user_type = "api")', True),
        ('not user_type = "api" or user_type = "api"', True),
        ('not (user_type = "api" or user_type = "api")', False),
        ('not not user_type = "api"', True),
        ('((user_type="api"))and(not(user="x"))', True),
        ('user_type\n=\t"api"\r\nand user_type in["api","x"]', True),
    ],
)
def test_not_binds_before_and_before_or(expression: str, expected: bool) -> None:
    assert holds(expression, example(DELTA)) is expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"a \"b\" \\ c", r'a "b" \ c'), ("", ""), ("é 😀", "é 😀"), ("and", "and"), ("(", "("), (r"\\", "\\")],
)
def test_strings_are_taken_as_they_are_but_for_two_escapes(written: str, meant: str) -> None:
    assert holds(f'attribute = "{written}"', delta(**{meant: []}))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"author": None},
        {"author": "erp"},
        {"author": {}},
        {"author": {"identifier": 5, "type": ["api"]}},
        {"product": None},
        {"product": {"ready_on_scopes": "ab"}},
        {"product": {"ready_on_scopes": [None, 5, ["a"]]}},
        {"product": {"changes": []}},
        {"product": {"changes": {"values": ["a"]}}},
        {"product": {"changes": {"values": {"name": "a"}}}},
    ],
)
def test_what_has_another_form_is_no_value(data: dict[str, Any]) -> None:
    for field in ("user", "user_type", "attribute", "scope", "locale", "ready_on_scopes"):
        assert not holds(f'{field} = "a"', event(DELTA, data))
        assert holds(f'not {field} = "a"', event(DELTA, data))


def test_only_the_events_of_the_table_carry_changes_and_readiness() -> None:
    product = {"ready_on_scopes": ["a"], "changes": {"values": {"a": [value("a", "a")]}}}
    data = {"product": product, "product_model": product}
    assert not holds('attribute = "a" or scope = "a" or locale = "a"', event(f"{PRODUCT}.updated", data))
    assert not holds('ready_on_scopes = "a"', event("com.akeneo.pim.v1.workflow.task.created", data))
    assert not holds('attribute = "a"', event("com.akeneo.pim.v1.asset.updated.delta", data))


FIELD = "a field (user, user_type, attribute, scope, channel, locale, ready_on_scopes), 'not' or '('"
ERRORS = [
    ("", 0, f"expected {FIELD}, but it ends here"),
    (" \n ", 0, f"expected {FIELD}, but it ends here"),
    ("and", 0, f"expected {FIELD}, but found 'and'"),
    ("user", 4, "expected '=' or 'in', but it ends here"),
    ("user ", 4, "expected '=' or 'in', but it ends here"),
    ('user "a"', 5, "expected '=' or 'in', but found '\"a\"'"),
    ('user != "a"', 5, "expected '=' or 'in', but found '!'"),
    ('user == "a"', 6, "expected a string in double quotes, but found '='"),
    ("user = a", 7, "expected a string in double quotes, but found 'a'"),
    ("user = 'a'", 7, 'expected a string in double quotes, but found "\'"'),
    ("user = 5", 7, "expected a string in double quotes, but found '5'"),
    ('user in "a"', 8, "expected '[', but found '\"a\"'"),
    ("user in []", 9, "expected a string in double quotes, but found ']'"),
    ('user in ["a",]', 13, "expected a string in double quotes, but found ']'"),
    ('user in ["a" "b"]', 13, "expected ',' or ']', but found '\"b\"'"),
    ('user in ["a"', 12, "expected ',' or ']', but it ends here"),
    ('user = "a" user = "b"', 11, "expected 'and', 'or' or the end, but found 'user'"),
    ('user = "a" and', 14, f"expected {FIELD}, but it ends here"),
    ('(user = "a"', 11, "expected 'and', 'or' or ')', but it ends here"),
    ('user = "a")', 10, "expected 'and', 'or' or the end, but found ')'"),
    ('user = "a" or\u00a0user = "b"', 13, f"expected {FIELD}, but found '\\xa0'"),
    ('user = "a', 7, "this string has no closing double quote"),
    ('user = "a\\"', 7, "this string has no closing double quote"),
    ('user = "a\\', 7, "this string has no closing double quote"),
    (r'user = "a\n"', 9, r"in a string, only \" and \\ can begin with a backslash"),
    ('user = "a" AND user = "b"', 11, "write 'and' in lower case"),
    ('NOT user = "a"', 0, "write 'not' in lower case"),
    ('user IN ["a"]', 5, "write 'in' in lower case"),
    ('usr = "a"', 0, "unknown field 'usr'; did you mean 'user'?"),
    ('user-type = "a"', 0, "unknown field 'user-type'; did you mean 'user_type'?"),
    ('user="a" and (Atribute = "a")', 14, "unknown field 'Atribute'; did you mean 'attribute'?"),
    ('ready = "a"', 0, "unknown field 'ready'; did you mean 'ready_on_scopes'?"),
    (
        'xyz = "a"',
        0,
        "unknown field 'xyz'; there are user, user_type, attribute, scope, channel, locale, ready_on_scopes",
    ),
]


@pytest.mark.parametrize(("expression", "position", "problem"), ERRORS)
def test_what_is_no_filter_is_told_with_its_place(expression: str, position: int, problem: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(expression)
    assert refused.value.position == position
    assert refused.value.reason == f"at character {position + 1}: {problem}"


def error_of(expression: str) -> str:
    with pytest.raises(FilterError) as refused:
        parse(expression)
    return str(refused.value)


def test_a_caret_stands_under_the_place() -> None:
    assert error_of('attribute = "name" and locael = "fr_FR"').splitlines() == [
        "at character 24: unknown field 'locael'; did you mean 'locale'?",
        'attribute = "name" and locael = "fr_FR"',
        "                       ^",
    ]


def test_of_several_lines_the_one_with_the_place_is_shown() -> None:
    assert error_of('user = "a"\n  or usr = "b"\n  or user = "c"').splitlines()[1:] == [
        '  or usr = "b"',
        "     ^",
    ]


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    long = f'user in ["{"a" * 100}"] or locael = "{"b" * 100}"'
    _, line, caret = error_of(long).splitlines()
    assert line[caret.index("^") :].startswith("locael = ")
    assert line[0] == line[-1] == "…"
    assert len(line) < 80


def test_what_cannot_be_printed_takes_one_place() -> None:
    _, line, caret = error_of('user\t=\u0085"\u202e"').splitlines()
    assert line[caret.index("^")] == " "
    assert line.isprintable()


def test_length_operators_and_nesting_are_limited() -> None:
    operators = " or ".join(['not user = "a"'] * 5)  # 4 or, 5 not
    parse(f'{operators} and user = "a"')
    assert f"more than {MAX_OPERATORS} logical operators (and, or, not)" in error_of(
        f'{operators} and user = "a" and user = "b"'
    )
    assert "more than" in error_of(f"{'not ' * 11}user = 'a'")
    parse(f'{"(" * MAX_NESTING}user = "a"{")" * MAX_NESTING}')
    parse(" and ".join([f'{"(" * MAX_NESTING}user = "a"{")" * MAX_NESTING}'] * 5))
    assert f"parentheses nested more than {MAX_NESTING} deep" in error_of("(" * 11)
    parse(f'user = "{"a" * (MAX_LENGTH - 9)}"')
    assert "more than 500 characters, there are 501" in error_of(f'user = "{"a" * (MAX_LENGTH - 8)}"')


def test_operators_and_parentheses_in_strings_do_not_count() -> None:
    parse(f'user = "{"and or not ( " * 20}"')


def test_a_predicate_is_compiled_once_for_each_expression() -> None:
    expression = 'user = "compiled once"'
    assert predicate_of(expression) is predicate_of(expression)


def decided(expression: str, of: Event) -> list[tuple[str, bool, str]]:
    return [(part.text, part.holds, part.why) for part in explain(expression, of).decided_by]


def test_an_explanation_says_which_comparisons_decided() -> None:
    changed = example(DELTA)
    api = ('user_type = "api"', True, 'the event\'s user_type: "api"')
    nobody = ('user = "x"', False, 'the event\'s user: "erp-sync-client-id"')
    unready = ('ready_on_scopes = "a"', False, "the event has no ready_on_scopes")
    assert decided('user_type = "api" and user = "x"', changed) == [nobody]
    assert decided('user = "x" and ready_on_scopes = "a"', changed) == [nobody, unready]
    assert decided('user = "x" or ready_on_scopes = "a"', changed) == [nobody, unready]
    assert decided('user = "x" or user_type = "api"', changed) == [api]
    assert decided('not user = "x" and user_type = "api"', changed) == [nobody, api]
    assert decided('not (user = "x" or not user_type = "api")', changed) == [nobody, api]


def test_an_explanation_has_every_part_as_it_is_written() -> None:
    expression = 'not (user = "x"  or attribute in ["name"]) and (user_type="api")'
    whole = explain(expression, example(DELTA)).whole
    assert (whole.text, whole.holds, whole.why) == (expression, False, "")
    negation, api = whole.parts
    assert (negation.text, negation.holds) == ('not (user = "x"  or attribute in ["name"])', False)
    assert (api.text, api.holds) == ('(user_type="api")', True)
    (inner,) = negation.parts
    assert (inner.text, inner.holds) == ('(user = "x"  or attribute in ["name"])', True)
    assert [(part.text, part.holds) for part in inner.parts] == [
        ('user = "x"', False),
        ('attribute in ["name"]', True),
    ]


def test_an_explanation_tells_values_that_fit_any_and_not_all_of_many() -> None:
    assert (
        decided('scope = "print"', example(DELTA))[0][2] == 'the event\'s scope: none (fits any), "ecommerce"'
    )
    many = delta(**{f"attribute_{number:02}": [] for number in range(30)})
    assert decided('attribute = "x"', many)[0][2].endswith('"attribute_09" and 21 more')


def test_an_explanation_can_be_sent_as_json() -> None:
    sent = orjson.loads(orjson.dumps(explain('user = "x"', example(DELTA))))
    part = {
        "text": 'user = "x"',
        "holds": False,
        "why": 'the event\'s user: "erp-sync-client-id"',
        "parts": [],
    }
    assert sent == {"matches": False, "decided_by": [part], "whole": part}
