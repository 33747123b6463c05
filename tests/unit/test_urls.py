"""URLs that name a PIM, and URLs that an endpoint may have."""

import pytest

from event_platform.domain.urls import (
    BAD_PORTS,
    check_endpoint_url,
    host_and_port,
    normalise_endpoint_url,
    normalise_pim_url,
)
from support.cpu import cpu_seconds

BAD_EITHER_WAY = [
    ("", "printable ASCII"),
    ("nonsense", "must begin with https://"),
    ("//host/", "must begin with https://"),
    ("ftp://host", "must begin with https://"),
    ("javascript:alert(1)", "must begin with https://"),
    ("https:", "must name a host"),
    ("https://", "must name a host"),
    ("https:///path", "must name a host"),
    ("https://:443/", "must name a host"),
    ("https://user@host", "user name or password"),
    ("https://user:secret@host", "user name or password"),
    ("https://@host", "user name or password"),
    ("https://:@host", "user name or password"),
    ("https://good.example@evil.example/", "user name or password"),
    ("https://host:0", "1 to 65535"),
    ("https://host:65536", "must have a port from 1 to 65535"),
    ("https://host:http", "must have a port from 1 to 65535"),
    ("https://host:+1", "must have a port from 1 to 65535"),
    ("https://[::1", "must be a URL"),
    ("https://::1/", "must have a port from 1 to 65535"),
    ("https://a[::1]b/", "must"),
    ("https://[v1.example]/", "must"),
    ("https://[fe80::1%25eth0]/", "must name a host of"),
    ("https://ex%61mple.com/", "must name a host of"),
    ("https://a,b/", "must name a host of"),
    ("https://a;b/", "must name a host of"),
    ("https://host /", "printable ASCII"),
    (" https://host", "printable ASCII"),
    ("https://host\n", "printable ASCII"),
    ("https://ho\tst", "printable ASCII"),
    ("https://host\\@evil.example/", "printable ASCII"),
    ("https://h\u00f6st/", "printable ASCII"),
    ("https://host\u3002example/", "printable ASCII"),
    ("https://host/" + "x" * 2048, "at most 2048"),
]


@pytest.mark.parametrize(("url", "why"), BAD_EITHER_WAY)
def test_a_url_that_cannot_be_used_is_refused_with_what_is_expected(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_endpoint_url(url, allow_http=False)
    with pytest.raises(ValueError, match=why):
        normalise_pim_url(url, allow_http=False)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://pim.example", "https://pim.example"),
        ("https://pim.example/", "https://pim.example"),
        ("https://pim.example//", "https://pim.example"),
        ("https://pim.example/base/", "https://pim.example/base"),
        ("https://pim.example/Base", "https://pim.example/Base"),
        ("HTTPS://PIM.Example", "https://pim.example"),
        ("https://pim.example:443", "https://pim.example"),
        ("https://pim.example:0443", "https://pim.example"),
        ("https://pim.example:", "https://pim.example"),
        ("https://pim.example:8443/", "https://pim.example:8443"),
        ("https://[2606:4700::1]:443/", "https://[2606:4700::1]"),
        ("https://[2606:4700::1]:8443/a", "https://[2606:4700::1]:8443/a"),
        ("https://my_pim.example", "https://my_pim.example"),
    ],
)
def test_a_pim_has_one_name_however_it_is_written(url: str, normal: str) -> None:
    assert normalise_pim_url(url, allow_http=False) == normal
    assert normalise_pim_url(normal, allow_http=False) == normal


@pytest.mark.parametrize(
    "url", ["https://pim.example/?a=b", "https://pim.example/#a", "https://pim.example?a"]
)
def test_a_pims_base_url_has_neither_query_nor_fragment(url: str) -> None:
    with pytest.raises(ValueError, match="without query or fragment"):
        normalise_pim_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/a?b=c&d=%20",
        "https://hooks.example.org?a",
        "https://hooks.example.org:8443/a/../b",
        "https://1.2.3.4/",
        "https://[2606:4700::1]/",
        "https://xn--hst-sna.example/",
    ],
)
def test_an_endpoint_may_have_path_query_and_port(url: str) -> None:
    check_endpoint_url(url, allow_http=False)


def test_an_endpoint_has_no_fragment() -> None:
    with pytest.raises(ValueError, match="no fragment"):
        check_endpoint_url("https://hooks.example.org/#a", allow_http=False)


def test_plain_http_is_for_those_who_allow_it() -> None:
    with pytest.raises(ValueError, match=r"must begin with https://$"):
        check_endpoint_url("http://hooks.example.org/", allow_http=False)
    check_endpoint_url("http://hooks.example.org/", allow_http=True)
    with pytest.raises(ValueError, match=r"must begin with https:// or http://$"):
        check_endpoint_url("ftp://hooks.example.org/", allow_http=True)
    assert normalise_pim_url("http://pim.example:80/", allow_http=True) == "http://pim.example"
    assert normalise_pim_url("http://pim.example:443/", allow_http=True) == "http://pim.example:443"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://Hooks.example.org/a", "hooks.example.org", 443),
        ("http://hooks.example.org", "hooks.example.org", 80),
        ("https://hooks.example.org:8443", "hooks.example.org", 8443),
        ("https://[2606:4700::1]:9/", "2606:4700::1", 9),
    ],
)
def test_host_and_port(url: str, host: str, port: int) -> None:
    assert host_and_port(url) == (host, port)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://h\u00f6st.example/a?b=c", "https://xn--hst-sna.example/a?b=c"),
        ("https://H\u00d6ST.example:8443", "https://xn--hst-sna.example:8443"),
        ("https://fa\u00df.example/", "https://xn--fa-hia.example/"),
        ("https://\u65e5\u672c\u8a9e\u3002jp/", "https://xn--wgv71a119e.jp/"),
        ("https://Hooks.Example.org/A", "https://Hooks.Example.org/A"),
    ],
)
def test_a_host_in_other_letters_is_kept_as_the_name_that_is_looked_up(url: str, kept: str) -> None:
    assert normalise_endpoint_url(url, allow_http=False) == kept
    assert normalise_endpoint_url(kept, allow_http=False) == kept


@pytest.mark.parametrize("port", sorted(BAD_PORTS - {0}))
def test_a_port_of_another_protocol_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"must not use port {port}"):
        check_endpoint_url(f"https://hooks.example.org:{port}/", allow_http=False)
    assert normalise_pim_url(f"https://pim.example:{port}", allow_http=False)  # an operator's word


@pytest.mark.parametrize("length", [250, 1000, 2000, 100_000])
def test_a_host_of_combining_characters_costs_little(length: int) -> None:
    host = "a" + "\u0315" * (length // 2) + "\u0300" * (length // 2)

    def refuse() -> None:
        with pytest.raises(ValueError, match=r"must name a host|at most 2048"):
            normalise_endpoint_url(f"https://{host}.example/", allow_http=False)

    assert cpu_seconds(refuse) < 0.02
