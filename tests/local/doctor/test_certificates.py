"""Checks of how soon a certificate ends, over real handshakes."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from aep.doctor import certificates
from aep.doctor.findings import State
from support.servers import Certificates, answers, serve

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def chain(folder: Path, *days: float) -> Path:
    """A file with a certificate for each number, which ends so many days after NOW."""
    authority, file = trustme.CA(), folder / "chain.pem"
    for each in days:
        issued = authority.issue_cert(
            "events.example.com", not_before=NOW - timedelta(days=90), not_after=NOW + timedelta(days=each)
        )
        issued.cert_chain_pems[0].write_to_path(file, append=True)
    return file


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [
        ((60.5, 90), State.OK, "the next one ends in 60 days, on 2026-08-01: "),
        ((13.5,), State.PROBLEM, "the next one ends in 13 days, on 2026-06-15: "),
        ((-1.5, 90), State.PROBLEM, "has ended on 2026-05-31: have it renewed"),
    ],
)
async def test_the_first_end_in_the_chain_of_the_file_counts(
    tmp_path: Path, days: tuple[float, ...], state: State, words: str
) -> None:
    found = await certificates.next_end(None, [], chain(tmp_path, *days), NOW)
    assert (found.state, found.needed) == (state, False)
    assert words in found.detail


async def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text("no certificate")
    for file in (tmp_path / "chain.pem", tmp_path / "none.pem"):
        found = await certificates.next_end(None, [], file, NOW)
        assert found.state is State.PROBLEM
        assert f"--tls-cert {file} cannot be read" in found.detail


async def test_a_pim_is_asked_for_its_certificate() -> None:
    made = Certificates()
    async with serve(answers(), tls=made.good()) as pim:
        found = await certificates.next_end(None, [pim.url("")], None, datetime.now(UTC), made.trust)
    assert found.detail.endswith(pim.url(""))


@pytest.mark.parametrize("of", ["expired", "unknown_authority", "wrong_name"])
async def test_a_public_url_whose_certificate_is_bad_is_a_problem_and_a_pims_is_another_checks(
    of: str,
) -> None:
    made = Certificates()
    context: ssl.SSLContext = getattr(made, of)()
    async with serve(answers(), tls=context) as there:
        public = await certificates.next_end(there.url(""), [], None, NOW, made.trust)
        pims = await certificates.next_end(None, [there.url("")], None, NOW, made.trust)
    assert public.state is State.PROBLEM
    assert "AEP_PUBLIC_URL): its certificate is not good" in public.detail
    assert pims.state is State.MISSING


async def test_a_public_url_that_cannot_be_reached_is_a_problem() -> None:
    found = await certificates.next_end("https://127.0.0.1:1", [], None, NOW)
    assert found.state is State.PROBLEM
    assert "it cannot be reached from here (connection refused)" in found.detail


async def test_without_tls_no_end_is_known() -> None:
    found = await certificates.next_end("http://127.0.0.1:8080", ["http://127.0.0.1:8081"], None, NOW)
    assert found.state is State.MISSING
