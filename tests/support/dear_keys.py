"""Keys and certificates that are made to cost time, and are made fast."""

import base64
import datetime
import math
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes


def a_certificate(key: CertificatePublicKeyTypes) -> str:
    """A certificate of a key, by an authority that nobody knows."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def a_dear_key(bits: int) -> rsa.RSAPrivateKey:
    """Numbers that fit each other but are not prime: made at once, and each signature takes twice."""
    while True:
        p, q = (secrets.randbits(bits // 2) | 3 << (bits // 2 - 2) | 1 for _ in "pq")
        order = math.lcm(p - 1, q - 1)
        if math.gcd(65537, order) == 1 and math.gcd(p, q) == 1:
            break
    d = pow(65537, -1, order)
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key(
        unsafe_skip_rsa_key_validation=True
    )


def pem_of(key: PrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def a_number(bits: int) -> int:
    """An odd number of so many bits."""
    return secrets.randbits(bits) | 1 << (bits - 1) | 1


def pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def rsa_key(*numbers: int) -> str:
    """An RSAPrivateKey (RFC 8017 A.1.2) of these numbers, whether they fit each other or not."""
    return pem("RSA PRIVATE KEY", sequence(*(integer(number) for number in (0, *numbers))))


def dsa_key(bits: int) -> str:
    """A PrivateKeyInfo with a DSA key, whose prime a library may look at for seconds."""
    parameters = sequence(integer(a_number(bits)), integer(a_number(256)), integer(a_number(bits - 2)))
    algorithm = sequence(bytes.fromhex("06072a8648ce380401"), parameters)
    key = integer(a_number(255))
    return pem("PRIVATE KEY", sequence(integer(0), algorithm, b"\x04" + _length(len(key)) + key))


def integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + _length(len(content)) + content


def sequence(*parts: bytes) -> bytes:
    content = b"".join(parts)
    return b"\x30" + _length(len(content)) + content


def _length(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(digits)]) + digits
