"""Certificates and private keys in PEM that subscribers give us for TLS: what is taken, and what it costs.

Each is bounded in bytes, kind and size before it is read by anything whose time grows with what it holds.
"""

import binascii
import re

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

MAX_CA_CHARACTERS = 64 * 1024
MAX_CHAIN_CHARACTERS = 32 * 1024
MAX_CERTIFICATES = 20
MAX_KEY_CHARACTERS = 16 * 1024
"""An RSA key of 8,192 bits has some 6,400."""
MAX_RSA_BITS = 8192
MAX_EXPONENT_BITS = 64

PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)

_KINDS = f"RSA (of at most {MAX_RSA_BITS} bits), EC (of a named curve) or Ed25519"
_BLOCK = re.compile(
    r"-----BEGIN (PRIVATE KEY|RSA PRIVATE KEY|EC PRIVATE KEY)-----[A-Za-z0-9+/=\s]*-----END \1-----", re.ASCII
)
_LENGTH = rb"(?:[\x00-\x7f]|\x81.|\x82..)"
_VERSIONED = rb"\x30" + _LENGTH + rb"\x02\x01"
_PKCS8_KINDS = (
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"  # rsaEncryption
    rb"|\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"  # id-ecPublicKey
    rb"|\x06\x03\x2b\x65[\x70\x71]"  # Ed25519, Ed448
)
_FORMS = {  # by the label that belongs to each (RFC 7468 10, RFC 8017 A.1.2, RFC 5915 3): how its DER begins
    "PRIVATE KEY": re.compile(
        _VERSIONED + rb"[\x00\x01]\x30" + _LENGTH + rb"(?:" + _PKCS8_KINDS + rb")", re.DOTALL
    ),
    "RSA PRIVATE KEY": re.compile(_VERSIONED + rb"[\x00\x01]\x02", re.DOTALL),
    "EC PRIVATE KEY": re.compile(_VERSIONED + rb"\x01\x04", re.DOTALL),
}
_FORM_NAMES = {"PRIVATE KEY": "PKCS#8", "RSA PRIVATE KEY": "PKCS#1 (RSA)", "EC PRIVATE KEY": "SEC1 (EC)"}
_OTHER_TEXTS = {
    "\\n": r"line breaks that are written as \n, two characters each",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----": "an encrypted key (PKCS#8); `openssl pkey` decrypts it",
    "Proc-Type: 4,ENCRYPTED": "an encrypted key; `openssl pkey` decrypts it",
    "-----BEGIN OPENSSH PRIVATE KEY-----": "OpenSSH's own form; `ssh-keygen -p -m PKCS8` converts it",
    "-----BEGIN DSA PRIVATE KEY-----": "a DSA key",
    "PUBLIC KEY-----": "a public key",
    "-----BEGIN CERTIFICATE-----": "a certificate",
    "PRIVATE KEY-----": "a block whose BEGIN and END do not fit each other, or with more than base64 in it",
    "-----BEGIN ": "a block with another label",
}
"""The contents of a text without a block of a private key, by what shows them; the first found counts."""
_PBES = rb"\x06.\x2a\x86\x48\x86\xf7\x0d\x01[\x05\x0c]"  # password-based encryption of PKCS#5 or PKCS#12
_OTHER_FORMS = {
    "an encrypted key (PKCS#8); `openssl pkey` decrypts it": rb"\x30" + _LENGTH + _PBES,
    "a public key": rb"\x30" + _LENGTH + rb"\x06",
    "a certificate": rb"\x30" + _LENGTH + rb"(?:\xa0\x03)?\x02",
    "a key of another kind, such as DSA or RSA-PSS (PKCS#8)": rb"\x02\x01[\x00\x01]\x30",
}
"""The content of DER that is no private key of these kinds, by the beginning of its outer sequence."""


def certificates_of(pem: str, *, max_characters: int) -> list[x509.Certificate]:
    """Returns the certificates, at least one. Raises ValueError, saying what is expected."""
    if len(pem) > max_characters or pem.count("-----BEGIN") > MAX_CERTIFICATES:
        raise ValueError(
            f"must have at most {MAX_CERTIFICATES} certificates and {max_characters // 1024} KiB; name only"
            " those that are needed"
        )
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        keys = [certificate.public_key() for certificate in certificates]
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, InternalError) as error:
        raise ValueError("must be one or more certificates in PEM") from error
    if "PRIVATE KEY" in pem:  # which the parser skips, and which is shown and kept as certificates are
        raise ValueError("must hold certificates only, no private key")
    if not all(map(_is_taken, keys)):
        raise ValueError(f"must hold certificates whose keys are {_KINDS}")
    return certificates


def private_key_of(pem: str) -> PrivateKey:
    """Returns the key. Raises ValueError, saying what is expected and which form was found.

    Whether the factors of an RSA key are prime is not looked at, which takes seconds: one that is wrong makes
    wrong signatures, for its owner alone.
    """
    _, label, block = _labelled(pem)
    try:
        key = serialization.load_pem_private_key(
            block.encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
        if isinstance(key, rsa.RSAPrivateKey):
            _check_rsa(key.private_numbers())
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        raise _wrong_key(f"{_FORM_NAMES[label]} whose numbers or curve cannot be used") from error
    if not isinstance(key, PrivateKey) or not _is_taken(key.public_key()):
        size = f" of {key.key_size} bits" if isinstance(key, rsa.RSAPrivateKey) else ""
        raise _wrong_key(f"{_FORM_NAMES[label]} with another key{size}")
    return key


def with_right_label(pem: str) -> str:
    """Returns the text with its key under the label of the form that it has. Raises ValueError."""
    before, _, block = _labelled(pem)
    return pem.replace(before, block)


def check_pair(certificates_pem: str, key_pem: str) -> None:
    """Raises ValueError if the key is not that of the first certificate. Compares public numbers only."""
    certificate, *_ = certificates_of(certificates_pem, max_characters=MAX_CHAIN_CHARACTERS)
    if certificate.public_key() != private_key_of(key_pem).public_key():
        raise ValueError("must be the key of the first certificate in client_cert_pem")


def _labelled(pem: str) -> tuple[str, str, str]:
    """Returns the block of the key, the label of the form that it has, and the block under that label.

    Many tools write PKCS#1 and SEC1 under the label of PKCS#8, and others take it. The form is read from the
    first bytes, before anything whose time grows with the key. Raises ValueError.
    """
    if len(pem) > MAX_KEY_CHARACTERS:
        raise ValueError(f"must have at most {MAX_KEY_CHARACTERS // 1024} KiB")
    block = _BLOCK.search(pem)
    if block is None:
        raise _wrong_key(next((name for mark, name in _OTHER_TEXTS.items() if mark in pem), "no PEM"))
    _, body, _ = re.split(r"-----[A-Z ]+-----", block[0])
    try:
        der = binascii.a2b_base64(body)
    except binascii.Error as error:
        raise _wrong_key("a block that is no base64") from error
    for label, beginning in _FORMS.items():
        if beginning.match(der):
            return block[0], label, block[0].replace(f"{block[1]}-----", f"{label}-----")
    others = (
        name for name, inside in _OTHER_FORMS.items() if re.match(rb"\x30" + _LENGTH + inside, der, re.DOTALL)
    )
    raise _wrong_key(next(others, "a block that holds no key"))


def _wrong_key(found: str) -> ValueError:
    return ValueError(
        f"must be a private key in PEM, not encrypted, of one of these kinds: {_KINDS}; found {found}"
    )


def _is_taken(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size <= MAX_RSA_BITS and key.public_numbers().e.bit_length() <= MAX_EXPONENT_BITS
    return isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


def _check_rsa(key: rsa.RSAPrivateNumbers) -> None:
    """Raises ValueError unless the numbers fit each other, so that none of them makes a signature dearer."""
    n, e = key.public_numbers.n, key.public_numbers.e
    longest = n.bit_length() * 3 // 4  # primes of unequal length are allowed, a giant one is not
    if not (
        1 < key.p < n
        and 1 < key.q < n
        and max(key.p.bit_length(), key.q.bit_length()) <= longest
        and key.p * key.q == n
        and 0 < key.d < n
        and key.dmp1 == key.d % (key.p - 1)
        and key.dmq1 == key.d % (key.q - 1)
        and 0 < key.iqmp < key.p
        and key.iqmp * key.q % key.p == 1
        and e * key.dmp1 % (key.p - 1) == 1
        and e * key.dmq1 % (key.q - 1) == 1
    ):
        raise ValueError("whose numbers do not fit each other")
