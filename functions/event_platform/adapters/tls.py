"""TLS contexts with which we connect to others."""

import ssl

_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Python's own choice, but for the ciphers of TLS 1.2 with Diffie-Hellman over finite fields."""


def client_context() -> ssl.SSLContext:
    """Verifies the peer's certificate by the system's authorities, and is restricted."""
    return restricted(ssl.create_default_context())


def restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    """Returns the context, with which no peer can choose dear work for us or a name of its own.

    A certificate counts for the names in its subjectAltName only: OpenSSL would take the common name where
    there are none, which is no host name by any rule (RFC 9525 2). Keys are agreed on over P-256, which every
    peer has (RFC 8446 9.1). Of the groups that OpenSSL offers by default a peer may choose one over a finite
    field, and 8,192 bits of that take 0.2 s of CPU. A connection has one handshake.
    """
    context.hostname_checks_common_name = False
    context.set_ciphers(_CIPHERS)
    context.set_ecdh_curve("prime256v1")
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
