"""Our words for what TLS failed of; OpenSSL's are for programmers, and differ between its versions."""

import ssl
from collections.abc import Mapping

_CERTIFICATES: Mapping[int, str] = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is signed by itself",
    19: "the certificate comes from an authority that is not trusted here",
    20: "the certificate's issuer is not known here; the server has to send the certificates in between",
    21: "the certificate's issuer is not known here; the server has to send the certificates in between",
    23: "the certificate was revoked",
    26: "the certificate is not meant for a server",
    62: "the certificate is for another host name",
    64: "the certificate is for another IP address",
    66: "the certificate's key is too short",
    67: "an authority's key is too short",
    68: "the certificate's signature is too weak",
}
"""The words by OpenSSL's X509_V_ERR_… numbers."""
_NO_TLS = "what answers does not speak TLS there"
_NO_VERSION = "the server has no version of TLS from 1.2 on"
_NOTHING_SHARED = "the server offers no cipher or parameters that are taken here"
_HANDSHAKES: Mapping[str, str] = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "HTTPS_PROXY_REQUEST": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "UNKNOWN_PROTOCOL": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "VERSION_TOO_LOW": _NO_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NOTHING_SHARED,
    "NO_SHARED_CIPHER": _NOTHING_SHARED,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NOTHING_SHARED,
    "DH_KEY_TOO_SMALL": "the server's key is too short",
    "TLSV1_UNRECOGNIZED_NAME": "the server does not know the host name",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server demands a certificate of its clients",
    "UNEXPECTED_EOF_WHILE_READING": "closed during the TLS handshake",
}
"""The words by the names that OpenSSL gives its errors."""


def tls_words(error: ssl.SSLError) -> str:
    """Says what is wrong with the peer's certificate, or why there is no TLS with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code, "the certificate is not trusted")
    return _HANDSHAKES.get(error.reason or "", "the TLS handshake failed")
