"""`aep serve` behind its own certificate."""

from pathlib import Path

import pytest
import trustme

from support.processes import command, http, server


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    return {"ca": str(tmp_path / "ca.pem"), "pem": str(tmp_path / "server.pem")}


def test_https_is_served_with_the_given_certificate(tmp_path: Path, certificate: dict[str, str]) -> None:
    pem = certificate["pem"]
    data = str(tmp_path / "data")
    with server(tmp_path, "serve", "--data", data, "--tls-cert", pem, "--tls-key", pem) as platform:
        assert platform.url.startswith("https://127.0.0.1:")
        answer = http().get(f"{platform.url}/health", verify=certificate["ca"], timeout=5)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tls-cert", "PEM"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "PEM", "--tls-key", "missing.pem"], "No such file"),
        (["--tls-cert", "CA", "--tls-key", "CA"], "--tls-cert"),
    ],
)
def test_wrong_tls_options_are_refused_in_one_line(
    tmp_path: Path, certificate: dict[str, str], options: list[str], message: str
) -> None:
    files = {"PEM": certificate["pem"], "CA": certificate["ca"]}
    given = [files.get(option, option) for option in options]
    with command(tmp_path, "serve", "--data", str(tmp_path / "data"), *given) as child:
        assert child.wait() == 2
        assert message in child.stderr()
        assert len(child.stderr().splitlines()) == 1
