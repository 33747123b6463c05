"""Signatures of delivered bodies."""

from collections.abc import Callable

import pytest

from event_platform.domain.attempts.signatures import sign, verify


@pytest.mark.parametrize(
    ("body", "secret", "signature"),
    [
        # RFC 4231, test case 2
        (
            b"what do ya want for nothing?",
            "Jefe",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        # openssl dgst -sha256 -hmac: a secret and a body beyond ASCII, and no body
        (
            b'{"a":"\xc3\xa9"}',
            "s\u00e9cret",
            "58ef6e068c7caa43746aa6f5582d1cb902b4e1c4cdb74d220111f338caeb46fe",
        ),
        (b"", "a primary secret", "0ddc75121ce7a0afb5ccb2c6183b34f284be89e1abff09d187c9ea7fd9a3d822"),
    ],
)
def test_a_signature_is_lower_case_hex_hmac_sha256_of_the_raw_body(
    body: bytes, secret: str, signature: str
) -> None:
    assert sign(body, secret) == signature
    assert verify(body, secret, signature)


@pytest.mark.parametrize(
    ("body", "secret", "changed"),
    [
        (b"body ", "secret", str),
        (b"body", "Secret", str),
        (b"body", "secret", str.upper),
        (b"body", "secret", lambda signature: signature[:-1]),
        (b"body", "secret", lambda signature: signature + "0"),
        (b"body", "secret", lambda signature: ""),
        (b"body", "secret", lambda signature: "\u00e9" * 64),
    ],
)
def test_another_body_secret_or_signature_does_not_verify(
    body: bytes, secret: str, changed: Callable[[str], str]
) -> None:
    assert not verify(body, secret, changed(sign(b"body", "secret")))
