"""No TLS context of ours takes a name from a certificate's common name (RFC 9525)."""

import re
from pathlib import Path

from event_platform.adapters.tls import client_context

MAKES_ONE = re.compile(r"^.*\b(?:create_default_context|SSLContext)\(.*$", re.MULTILINE)
SOURCES = [*Path("functions").rglob("*.py"), *Path("local").rglob("*.py")]


def test_a_clients_context_verifies_and_takes_names_of_the_san_alone() -> None:
    context = client_context()
    assert context.check_hostname
    assert not context.hostname_checks_common_name


def test_every_clients_context_is_made_so() -> None:
    made = {line.strip() for path in SOURCES for line in MAKES_ONE.findall(path.read_text())}
    assert made
    assert all("by_san_only(" in line or "CLIENT_AUTH" in line for line in made), made
