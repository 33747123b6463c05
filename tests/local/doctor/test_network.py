"""Checks of names, by c-ares against a name server of the test, and of the mail server."""

from aep.doctor import findings, network
from aep.doctor.findings import State
from event_platform.adapters.guard import TrustedNetwork
from event_platform.adapters.resolvers import local_names
from event_platform.domain.mail_servers import MailServer
from support.mail_server import mail_server
from support.processes import free_port
from support.servers import DnsServer

PIM = "pim.example.com"


def by(dns: DnsServer) -> TrustedNetwork:
    return TrustedNetwork(lambda: local_names([f"127.0.0.1:{dns.port}"]))


async def test_a_name_that_resolves_is_shown_with_its_address() -> None:
    async with DnsServer({PIM: [["192.0.2.7"]]}) as dns:
        assert await network.names([PIM], by(dns)) == [findings.ok("names", f"{PIM} is 192.0.2.7")]


async def test_several_names_are_one_finding_while_all_resolve() -> None:
    async with DnsServer({PIM: [["192.0.2.7"]], "other.example.com": [["192.0.2.8"]]}) as dns:
        (found,) = await network.names([PIM, "other.example.com"], by(dns))
    assert found == findings.ok("names", "2 names of PIMs can be looked up")


async def test_a_name_of_a_pim_that_nobody_knows_is_a_problem_and_the_others_are_left_out() -> None:
    async with DnsServer({PIM: [["192.0.2.7"]]}) as dns:
        (found,) = await network.names([PIM, "pmi.example.com"], by(dns))
    assert (found.state, found.needed) == (State.PROBLEM, False)
    assert found.detail == "pmi.example.com has no address: look at the PIM's URL, and at DNS"


async def test_without_pims_a_resolver_that_answers_at_all_is_well() -> None:
    async with DnsServer({}) as dns:
        (found,) = await network.names([], by(dns))
    assert found.state is State.OK
    assert f"does not know {network.ASKED_NAME}" in found.detail


async def test_a_resolver_that_is_silent_is_a_problem_but_keeps_nothing_from_starting() -> None:
    async with DnsServer({}, silent=[PIM]) as dns:
        (found,) = await network.names([PIM], by(dns))
    assert (found.state, found.needed) == (State.PROBLEM, False)
    assert "/etc/resolv.conf" in found.detail


def test_hosts_are_the_names_of_urls_and_no_addresses() -> None:
    urls = ["https://a.example.com:8443", "https://a.example.com/", "http://127.0.0.1:8081", "http://sim"]
    assert network.hosts_of(urls) == ["a.example.com"]


async def test_a_mail_server_that_answers_is_well() -> None:
    with mail_server() as box:
        found = await network.mail(MailServer("127.0.0.1", box.port, False, "events@example.com"))
    assert (found.state, found.detail) == (State.OK, f"127.0.0.1:{box.port} answers")
    assert (box.hellos, box.mails) == (["example.com"], [])


async def test_a_mail_server_that_is_down_is_a_problem_with_what_to_check() -> None:
    found = await network.mail(MailServer("127.0.0.1", free_port(), False, "events@example.com"))
    assert (found.state, found.needed) == (State.PROBLEM, False)
    assert "refuses connections; check AEP_SMTP_URL" in found.detail


async def test_without_a_mail_server_mails_are_missing() -> None:
    assert (await network.mail(None)).state is State.MISSING
