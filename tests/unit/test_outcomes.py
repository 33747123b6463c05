"""What follows from each answer and each failure (contract/wire.md 11 and 13)."""

import pytest

from event_platform.domain.attempts.outcomes import (
    Answer,
    Kind,
    Outcome,
    Published,
    Reason,
    Refusal,
    TransportFailure,
    classify,
    has_connected,
)

KIND_OF_REASON = {
    "destination_timeout": "retryable",
    "dns_lookup_failure": "retryable",
    "invalid_certificate": "retryable",
    "invalid_tls_handshake": "retryable",
    "connection_reset": "retryable",
    "connection_refused": "retryable",
    "network_unreachable": "retryable",
    "unexpected_eof": "retryable",
    "server_goaway": "retryable",
    "client_closed_connection": "retryable",
    "authentication_failed": "retryable",
    "publish_rejected": "retryable",
    "destination_failure": "retryable",
    "invalid_destination_configuration": "permanent",
    "destination_not_found": "suspending",
    "destination_redirected": "suspending",
    "topic_not_found": "suspending",
}


def by_contract(status: int) -> Outcome:
    match status:
        case 404:
            return Outcome(Kind.SUSPENDING, Reason.DESTINATION_NOT_FOUND, status)
        case 429:
            return Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, status)
        case _ if status // 100 == 2:
            return Outcome(Kind.DELIVERED, None, status)
        case _ if status // 100 == 3:
            return Outcome(Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED, status)
        case _:
            return Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, status)


@pytest.mark.parametrize("status", range(100, 1000))
def test_every_status_has_its_consequence(status: int) -> None:
    assert classify(Answer(status)) == by_contract(status)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_consequence(reason: Reason) -> None:
    outcome = classify(TransportFailure(reason, "detail"))
    assert outcome == Outcome(Kind(KIND_OF_REASON[reason]), reason, None)


def test_the_reasons_are_those_of_the_contract() -> None:
    assert {str(reason) for reason in Reason} == set(KIND_OF_REASON)


def test_what_an_endpoint_says_besides_its_status_decides_nothing() -> None:
    answer = Answer(503, {"retry-after": "1", "location": "https://elsewhere.example"}, b"not found")
    assert classify(answer) == classify(Answer(503))


def test_what_a_broker_took_is_delivered() -> None:
    assert classify(Published()) == Outcome(Kind.DELIVERED, None, None)


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_has_the_consequence_of_its_reason_unless_publishing_is_forbidden(reason: Reason) -> None:
    assert classify(Refusal(reason)) == Outcome(Kind(KIND_OF_REASON[reason]), reason, None)
    assert classify(Refusal(reason, forbidden=True)) == Outcome(Kind.SUSPENDING, reason, None)


AFTER_CONNECTING = {
    "invalid_certificate",
    "invalid_tls_handshake",
    "connection_reset",
    "unexpected_eof",
    "server_goaway",
}


@pytest.mark.parametrize("reason", Reason)
def test_what_shows_that_there_was_a_connection(reason: Reason) -> None:
    assert has_connected(TransportFailure(reason)) is (reason in AFTER_CONNECTING)
    assert has_connected(Refusal(reason))
    assert has_connected(Answer(503))
    assert has_connected(Published())


def test_an_answer_that_is_printed_shows_nothing_that_an_endpoint_said() -> None:
    shown = repr(Answer(500, {"set-cookie": "secret-1"}, b"secret-2"))
    assert "500" in shown
    assert "secret" not in shown
