"""Reads what a reader has typed: JSON, and the redacted form for the log."""

from typing import Any

from event_platform.domain.errors import InvalidRequest, Problem, TooLarge
from event_platform.domain.events import json_form
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.record.redaction import Redaction
from event_platform.manage.json_bodies import BODY_LIMIT, MAX_VALUES
from event_platform.manage.logs import call_of


def json_of(text: str, field: str) -> Any:
    """Returns the value of a field that holds JSON. Raises InvalidRequest, and TooLarge, which bound it."""
    body = text.encode("utf-8", "replace")
    if len(body) > BODY_LIMIT or json_form.has_more_values(body, MAX_VALUES):
        raise TooLarge(f"{field} has more than {BODY_LIMIT // 1024} KiB, or more than {MAX_VALUES} values")
    try:
        value = json_form.parse(body)
    except json_form.MalformedJson as error:
        raise InvalidRequest(Problem(field, error.said_of("it"))) from error
    if json_form.has_lone_surrogates(value):
        raise InvalidRequest(Problem(field, "holds half of a surrogate pair, which is no character"))
    return value


def action(path: str, body: Any = None) -> Action:
    """Returns the action of a form at a path for the log, in which the body stands without its secrets."""
    return Action(Actor.OPERATOR, call_of("POST", path, Redaction(body)))
