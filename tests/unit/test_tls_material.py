"""Certificates and keys that subscribers give us: what is taken, and that no other costs time to refuse."""

from collections.abc import Callable
from contextlib import suppress
from itertools import product

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from event_platform.domain.tls_material import (
    MAX_CA_CHARACTERS,
    MAX_CERTIFICATES,
    certificates_of,
    check_pair,
    private_key_of,
    with_right_label,
)
from support.cpu import cpu_seconds
from support.dear_keys import (
    a_certificate,
    a_dear_key,
    a_number,
    dsa_key,
    integer,
    pem,
    pem_of,
    rsa_key,
    sequence,
)

EC_KEY = ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = a_certificate(EC_KEY.public_key())
DEAR = a_dear_key(8192)
EC_PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
LIMIT = 0.02
"""Seconds of CPU."""


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
@pytest.mark.parametrize(
    "key", [EC_KEY, DEAR, rsa.generate_private_key(65537, 2048)], ids=["EC", "RSA 8192", "RSA 2048"]
)
def test_a_key_is_taken(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat) -> None:
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    assert private_key_of(text).public_key() == key.public_key()
    assert private_key_of(f"{EC_PARAMETERS}{text}")  # as `openssl ecparam -genkey` writes it
    certificate = a_certificate(key.public_key())
    assert cpu_seconds(lambda: check_pair(certificate, text)) < LIMIT


LABELS = {  # by the form that each belongs to
    "PKCS#8": ("PRIVATE KEY", serialization.PrivateFormat.PKCS8),
    "traditional": ("{kind} PRIVATE KEY", serialization.PrivateFormat.TraditionalOpenSSL),
}
KEYS = {"EC": EC_KEY, "RSA": rsa.generate_private_key(65537, 2048)}


@pytest.mark.parametrize(
    ("kind", "form", "label"),
    list(product(KEYS, LABELS, ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"))),
)
def test_a_key_under_the_label_of_another_form_is_taken_and_labelled_anew(
    kind: str, form: str, label: str
) -> None:
    right, encoding = LABELS[form]
    right = right.format(kind=kind)
    text = (
        KEYS[kind].private_bytes(serialization.Encoding.PEM, encoding, serialization.NoEncryption()).decode()
    )
    sent = text.replace(f"{right}-----", f"{label}-----")
    for before in ("", EC_PARAMETERS):
        assert private_key_of(before + sent).public_key() == KEYS[kind].public_key()
        kept = with_right_label(before + sent)
        assert kept == before + text
        assert serialization.load_pem_private_key(kept.encode(), None).public_key() == KEYS[kind].public_key()
    check_pair(a_certificate(KEYS[kind].public_key()), sent)


def relabelled(text: str) -> str:
    """Returns the bytes under the label of PKCS#8."""
    label = text.partition("-----BEGIN ")[2].partition("-----")[0]
    return text.replace(f"{label}-----", "PRIVATE KEY-----")


def protected(form: serialization.PrivateFormat) -> str:
    return EC_KEY.private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"password")
    ).decode()


PUBLIC = (
    EC_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
FOUND = [
    (protected(serialization.PrivateFormat.PKCS8), "an encrypted key (PKCS#8)"),
    (relabelled(protected(serialization.PrivateFormat.PKCS8)), "an encrypted key (PKCS#8)"),
    (protected(serialization.PrivateFormat.TraditionalOpenSSL), "an encrypted key;"),
    (
        EC_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode(),
        "OpenSSH's own form",
    ),
    (CERTIFICATE, "a certificate"),
    (relabelled(CERTIFICATE), "a certificate"),
    (PUBLIC, "a public key"),
    (relabelled(PUBLIC), "a public key"),
    (dsa_key(1024), "a key of another kind, such as DSA"),
    (pem("DSA PRIVATE KEY", b"x"), "a DSA key"),
    (pem("PRIVATE KEY", sequence(*(integer(a_number(512)) for _ in range(5)))), "a block that holds no key"),
    (pem("PRIVATE KEY", sequence(*map(integer, (0, *(a_number(512),) * 5)))), "PKCS#1 (RSA) whose numbers"),
    (relabelled(pem_of(a_dear_key(16_384))), "PKCS#8 with another key of 16384 bits"),
    ("-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----", "a block that is no base64"),
    ("-----BEGIN PRIVATE KEY-----\nAAAA", "a block whose BEGIN and END do not fit each other"),
    (pem_of(EC_KEY).replace("\n", "\\n"), r"line breaks that are written as \n"),
    ("-----BEGIN X-----", "a block with another label"),
    ("secret", "no PEM"),
]


@pytest.mark.parametrize(("text", "found"), FOUND, ids=[found for _, found in FOUND])
def test_what_was_found_in_place_of_a_key_is_named(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=r"; found ") as refused:
        private_key_of(text)
    assert f"; found {found}" in str(refused.value)


def test_an_rsa_key_with_primes_of_unequal_length_is_taken() -> None:
    p, q = 2**2203 - 1, 2**2281 - 1  # Mersenne primes, so that nobody has to look for them
    d = pow(65537, -1, (p - 1) * (q - 1))
    private_key_of(rsa_key(p * q, 65537, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)))


def test_an_ed25519_key_is_taken() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert private_key_of(pem_of(key)).public_key() == key.public_key()


DEAR_NUMBERS = DEAR.private_numbers()
N = DEAR_NUMBERS.public_numbers.n
FACTORS = (DEAR_NUMBERS.p, DEAR_NUMBERS.q, DEAR_NUMBERS.dmp1, DEAR_NUMBERS.dmq1, DEAR_NUMBERS.iqmp)
ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
REFUSED: dict[str, Callable[[], str]] = {
    "16,384 bits": lambda: pem_of(a_dear_key(16_384)),
    "numbers that do not fit": lambda: rsa_key(a_number(4484), 65537, *(a_number(2242) for _ in range(6))),
    "a huge exponent": lambda: rsa_key(N, 65537, a_number(60_000), *FACTORS),
    "a public exponent that is long": lambda: rsa_key(N, a_number(8000), DEAR_NUMBERS.d, *FACTORS),
    "factors of unequal length": lambda: rsa_key(a_number(4000) * 7, 3, 3, a_number(4000), 7, 1, 1, 1),
    "factors that are one": lambda: rsa_key(a_number(2048), 3, 7, 1, 1, 0, 0, 1),
    "19,630 bits": lambda: rsa_key(a_number(19_630), 3, 7, a_number(9815), a_number(9815), 1, 1, 1),
    "numbers that do not fit, under another label": lambda: relabelled(
        rsa_key(a_number(4484), 65537, *(a_number(2242) for _ in range(6)))
    ),
    "19,630 bits, under another label": lambda: relabelled(
        rsa_key(a_number(19_630), 3, 7, a_number(9815), a_number(9815), 1, 1, 1)
    ),
    "DSA as OpenSSL wrote it, under another label": lambda: pem(
        "PRIVATE KEY", sequence(*map(integer, (0, *(a_number(8000) for _ in range(5)))))
    ),
    "DSA": lambda: dsa_key(8000),
    "DSA, larger than is read": lambda: dsa_key(30_000),
    "Ed448 with a key of Ed25519's length": lambda: pem(
        "PRIVATE KEY", ED25519.replace(b"\x2b\x65\x70", b"\x2b\x65\x71", 1)
    ),
    "X25519": lambda: pem_of(x25519.X25519PrivateKey.generate()),
    "encrypted": lambda: EC_KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    ).decode(),
    "no base64": lambda: "-----BEGIN PRIVATE KEY-----" + "=" * 16_000 + "-----END PRIVATE KEY-----",
    "no end": lambda: "-----BEGIN PRIVATE KEY-----" * 600,
    "too long": lambda: pem_of(EC_KEY) + " " * 20_000,
    "a certificate": lambda: CERTIFICATE,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_another_key_is_refused_at_once(make: Callable[[], str]) -> None:
    text = make()

    def refuse() -> None:
        with pytest.raises(ValueError, match=r"must (be a private key|have at most)"):
            private_key_of(text)

    assert cpu_seconds(refuse) < LIMIT


def test_so_many_certificates_are_taken() -> None:
    pem = CERTIFICATE * MAX_CERTIFICATES
    assert len(certificates_of(pem, max_characters=MAX_CA_CHARACTERS)) == MAX_CERTIFICATES
    for more in (pem + CERTIFICATE, CERTIFICATE + " " * MAX_CA_CHARACTERS):
        with pytest.raises(ValueError, match="must have at most 20 certificates and 64 KiB"):
            certificates_of(more, max_characters=MAX_CA_CHARACTERS)


@pytest.mark.parametrize(("e", "bits"), [(65537, 16_384), (a_number(2000), 2048)], ids=["key", "exponent"])
def test_a_certificate_with_a_dear_key_is_refused(e: int, bits: int) -> None:
    pem = a_certificate(rsa.RSAPublicNumbers(e, a_number(bits)).public_key())
    with pytest.raises(ValueError, match="must hold certificates whose keys are RSA"):
        certificates_of(pem, max_characters=MAX_CA_CHARACTERS)


@pytest.mark.parametrize(
    "pem",
    [
        "-----BEGIN CERTIFICATE-----\n" * 2000,
        "-" * 60_000 + CERTIFICATE,
        "-----BEGIN X-----\nAAAA\n-----END X-----\n" * 1000 + CERTIFICATE,
        a_certificate(rsa.RSAPublicNumbers(65537, a_number(200_000)).public_key()),
        CERTIFICATE * 20,
    ],
    ids=["no end", "dashes", "other blocks", "a giant key", "twenty"],
)
def test_no_list_of_certificates_takes_long(pem: str) -> None:
    def read() -> None:
        with suppress(ValueError):
            certificates_of(pem, max_characters=MAX_CA_CHARACTERS)

    assert cpu_seconds(read) < LIMIT


def test_a_key_of_another_certificate_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="must be the key of the first certificate"):
        check_pair(CERTIFICATE, pem_of(other))
