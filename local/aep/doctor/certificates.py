"""Checks of the certificates that the platform stands on: how soon the next one of them ends."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from event_platform.adapters.tls import client_context
from event_platform.domain.words import counted

from ..runtime import unanswered
from .findings import Check, missing, ok, problem

FEW_DAYS = 14
SECONDS = 10.0
ASKED = 20
"""The largest number of hosts that are connected to."""
NAME = "certificates"


async def next_end(
    public_url: str | None,
    pims: Sequence[str],
    file: Path | None,
    now: datetime,
    context: ssl.SSLContext | None = None,
) -> Check:
    """Checks the certificate that ends next: of the platform's public URL, of its file, or of a PIM.

    A PIM that cannot be reached is a finding of another check.
    """
    ends: dict[str, datetime] = {}
    if file is not None:
        try:
            ends[str(file)] = end_of_file(file)
        except (OSError, ValueError) as error:
            return problem(NAME, f"--tls-cert {file} cannot be read: {error}")
    urls = [url for url in (*([public_url] if public_url else []), *pims) if url.startswith("https:")][:ASKED]
    context = context or client_context()
    for url, end in zip(urls, await asyncio.gather(*(end_of(url, context) for url in urls)), strict=True):
        if isinstance(end, datetime):
            ends[url] = end
        elif url == public_url:
            return problem(NAME, f"{url} (AEP_PUBLIC_URL): {end}")
    if not ends:
        return missing(NAME, "none is known: name a file with --tls-cert, or AEP_PUBLIC_URL with https")
    return _next(ends, now)


def _next(ends: Mapping[str, datetime], now: datetime) -> Check:
    where, end = min(ends.items(), key=lambda item: item[1])
    days = (end - now).days
    if days < 0:
        return problem(NAME, f"that of {where} has ended on {end:%Y-%m-%d}: have it renewed")
    said = f"the next one ends in {counted(days, 'day')}, on {end:%Y-%m-%d}: {where}"
    return problem(NAME, f"{said}; have it renewed") if days < FEW_DAYS else ok(NAME, said)


def end_of_file(file: Path) -> datetime:
    """Returns the first moment at which a certificate of the chain is not good any more.

    Raises OSError, ValueError.
    """
    chain = x509.load_pem_x509_certificates(file.read_bytes())
    return min(certificate.not_valid_after_utc for certificate in chain)


async def end_of(url: str, context: ssl.SSLContext) -> datetime | str:
    """Returns the end of the certificate that is shown at the URL, or why none is known."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not good ({error.verify_message}): have it renewed or corrected"
    except (OSError, TimeoutError) as error:
        return f"it cannot be reached from here ({unanswered.why(error)})"
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
