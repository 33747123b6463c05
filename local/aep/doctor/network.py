"""Checks of names and of the mail server."""

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from event_platform.adapters.guard import TrustedNetwork
from event_platform.adapters.resolvers import NameNotResolved, ResolverSilent, Unanswered
from event_platform.adapters.smtp import SmtpMailer
from event_platform.domain.mail_servers import MailServer
from event_platform.domain.words import counted

from .findings import Check, State, missing, ok, problem

ASKED = 20
"""The largest number of names that are looked up."""
ASKED_NAME = "example.com"
MAIL_SECONDS = 5.0


async def names(hosts: Sequence[str], network: TrustedNetwork) -> list[Check]:
    """Checks names by c-ares, as deliveries do: those of PIMs, or without any one that all resolvers know."""
    asked = hosts[:ASKED] or (ASKED_NAME,)
    try:
        found = await asyncio.gather(*(_name(host, network) for host in asked))
    finally:
        await network.close()
    if problems := [check for check in found if check.state is State.PROBLEM]:
        return problems
    if len(found) == 1:
        return found
    return [ok("names", f"{counted(len(found), 'name')} of PIMs can be looked up")]


async def _name(host: str, network: TrustedNetwork) -> Check:
    try:
        addresses = await network.resolve(host)
    except (Unanswered, ResolverSilent) as error:
        return problem(
            "names", f"{host} could not be looked up ({error.strerror or error}): check /etc/resolv.conf"
        )
    except NameNotResolved:
        if host == ASKED_NAME:
            return ok("names", f"the resolver answers; it does not know {host}")
        return problem("names", f"{host} has no address: look at the PIM's URL, and at DNS")
    except OSError as error:
        return problem("names", f"{host} could not be looked up: {error.strerror or error}")
    return ok("names", f"{host} is {addresses[0]}")


def hosts_of(urls: Iterable[str]) -> list[str]:
    """Returns the hosts of the URLs that are names of the DNS."""
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
    return [host for host in hosts if "." in host and not _is_address(host)]


async def mail(server: MailServer | None) -> Check:
    """Checks the mail server up to EHLO, and up to TLS and a login where they are set."""
    if server is None:
        return missing(
            "mail", "no AEP_SMTP_URL: subscribers are told by webhook only, and of deletions not at all"
        )
    failure = await SmtpMailer(server, deadline=MAIL_SECONDS).check()
    where = f"{server.host}:{server.port}"
    if failure is not None:
        return problem("mail", f"{where}: {failure.detail}; check AEP_SMTP_URL and the mail server")
    return ok("mail", f"{where} answers{' and takes the login' if server.user else ''}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
