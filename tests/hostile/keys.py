"""Keys that are dear to check, made in no time: of Mersenne primes, which nobody has to look for."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import NameOID

RSA_4484 = (2203, 2281)
RSA_19630 = (9689, 9941)
"""Exponents of two Mersenne primes: the bits of their product are the sum."""
UNEQUAL = (61, 4423)
"""Their product is as long as the first one's; a signature with it takes several times as long."""


def rsa_key(exponents: tuple[int, int]) -> rsa.RSAPrivateKey:
    p, q = (2**exponent - 1 for exponent in exponents)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def honest_key(bits: int) -> rsa.RSAPrivateKey:
    """As OpenSSL makes it, which takes a second for 4,096 bits."""
    return rsa.generate_private_key(65537, bits)


def pem_of(key: rsa.RSAPrivateKey | dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def certificate_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A certificate of its public key, signed by another."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka.test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return (
        builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def kafka_config(broker: str, key: rsa.RSAPrivateKey | None = None) -> dict[str, object]:
    """A config of a Kafka destination, over TLS with that client key when there is one."""
    sasl = {"mechanism": "plain", "username": "mallory", "password": "a-password"}
    config: dict[str, object] = {"broker": broker, "topic": "events", "sasl_auth": sasl}
    if key is None:
        return config
    certificate = certificate_of(key)
    return config | {
        "tls": {
            "server_name": "kafka.test",
            "ca_pem": certificate,
            "client_cert_pem": certificate,
            "client_key_pem": pem_of(key),
        }
    }
