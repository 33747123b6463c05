"""What libraries find wrong is said in our words."""

import json
from datetime import timedelta
from typing import Any

import jsonschema_rs
import orjson
import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from event_platform.domain.validation_words import json_words, schema_words, words_of
from support.plain_words import check_words


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,}',
        "[1,]",
        "[1 2]",
        "{} {}",
        "{a:1}",
        "nul",
        "-",
        "1.",
        "1.e3",
        "01",
        "1e",
        "1e400",
        '"abc',
        '"a\nb"',
        '"\\x"',
        '"\\u12"',
        '"\\ud800"',
        "[" * 2000,
        "\ufeff{}",
        '{"a" 1}',
        "+1",
    ],
)
def test_a_text_that_is_no_json_is_described_in_our_words_with_its_place(text: str) -> None:
    errors: list[json.JSONDecodeError] = []
    for read in (orjson.loads, json.loads):
        try:
            read(text)
        except json.JSONDecodeError as error:
            errors.append(error)
        except RecursionError:
            pass
    assert errors
    for error in errors:
        words = json_words(error)
        check_words(words)
        assert words.startswith(f"not JSON at line {error.lineno}, column {error.colno}: ")
        assert "look there" not in words, error.msg


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "string"}, 1, "must be a string"),
        ({"type": ["string", "null"]}, 1, "must be null or a string"),
        ({"required": ["a"]}, {}, '"a" is required'),
        (
            {"additionalProperties": False, "properties": {"a": {}}},
            {"b": 1},
            'has fields that are not known: "b"',
        ),
        ({"additionalProperties": False}, {"b": 1}, "has something that the schema does not allow"),
        ({"unevaluatedProperties": False}, {"b": 1}, 'has fields that are not known: "b"'),
        ({"enum": ["a", 1]}, "c", 'must be one of "a", 1'),
        ({"const": "x"}, "c", 'must be "x"'),
        ({"format": "uuid"}, "c", "must be a UUID"),
        ({"format": "date"}, "c", "must be of the format date"),
        ({"pattern": "^[a-z]+$"}, "1", "must have the form that `pattern` of the schema gives"),
        ({"minLength": 3}, "c", "must have at least 3 characters"),
        ({"minLength": 1}, "", "must have at least 1 character"),
        ({"maxLength": 0}, "c", "must have at most 0 characters"),
        ({"minItems": 2}, [1], "must have at least 2 elements"),
        ({"maxItems": 0}, [1], "must have at most 0 elements"),
        ({"minProperties": 2}, {}, "must have at least 2 fields"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 fields"),
        ({"minimum": 3}, 1, "must be at least 3"),
        ({"maximum": 3}, 4, "must be at most 3"),
        ({"exclusiveMinimum": 3}, 3, "must be greater than 3"),
        ({"exclusiveMaximum": 3}, 3, "must be less than 3"),
        ({"multipleOf": 2}, 3, "must be a multiple of 2"),
        ({"uniqueItems": True}, [1, 1], "must not have the same element twice"),
        ({"contains": {"type": "string"}}, [1], "must have an element that the schema asks for (contains)"),
        ({"propertyNames": {"maxLength": 1}}, {"abc": 1}, "has a field whose name the schema does not allow"),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            1,
            "fits none of the forms that the schema allows (anyOf)",
        ),
        ({"oneOf": [{}, {}]}, 1, "must fit exactly one of the forms that the schema gives (oneOf)"),
        (
            {"oneOf": [{"type": "string"}]},
            1,
            "must fit exactly one of the forms that the schema gives (oneOf)",
        ),
        ({"not": {}}, 1, "has a form that the schema rules out (not)"),
        ({"unevaluatedItems": False}, [1], "has more elements than the schema allows"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "has something that the schema does not allow"),
    ],
)
def test_data_that_does_not_fit_its_schema_is_described_in_our_words(
    schema: dict[str, Any], value: Any, words: str
) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    said = [schema_words(error) for error in validator.iter_errors(value)]
    assert said == [words]
    check_words(words)


def test_a_kind_of_error_that_has_no_words_yet_is_not_quoted() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(strict=True)

        at: timedelta

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"at": "x"})
    (error,) = caught.value.errors()
    assert words_of(error) == "is not of the form that is expected here"
