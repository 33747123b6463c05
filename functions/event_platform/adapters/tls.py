"""TLS contexts with which we connect to others."""

import ssl


def client_context() -> ssl.SSLContext:
    """Verifies the peer's certificate by the system's authorities, and its name as `by_san_only` says."""
    return by_san_only(ssl.create_default_context())


def by_san_only(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context; a certificate counts for the names in its subjectAltName only.

    OpenSSL would take the common name where there are none, which is no host name by any rule (RFC 9525 2).
    """
    context.hostname_checks_common_name = False
    return context
