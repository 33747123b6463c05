"""What the HTTP client makes of URLs; what it sends is in the suite of `Sender`."""

import pytest

from event_platform.adapters.http_client.requests import InvalidUrl, request_to, target_of


@pytest.mark.parametrize(
    ("url", "path", "host"),
    [
        ("https://hooks.example.org", "/", "hooks.example.org"),
        ("https://hooks.example.org/", "/", "hooks.example.org"),
        ("https://hooks.example.org?a=b", "/?a=b", "hooks.example.org"),
        ("https://hooks.example.org/p?", "/p?", "hooks.example.org"),
        ("https://hooks.example.org/p?a=/b?c", "/p?a=/b?c", "hooks.example.org"),
        ("https://hooks.example.org//p//", "//p//", "hooks.example.org"),
        ("https://hooks.example.org/p%2F%2f/../.", "/p%2F%2f/../.", "hooks.example.org"),
        ("https://hooks.example.org/http://b@c:1/", "/http://b@c:1/", "hooks.example.org"),
        ("https://hooks.example.org/p#", "/p", "hooks.example.org"),
        ("HTTPS://Hooks.Example.ORG/P", "/P", "hooks.example.org"),
        ("https://hooks.example.org./", "/", "hooks.example.org"),
        ("https://hooks.example.org:443/", "/", "hooks.example.org"),
        ("https://hooks.example.org:0443/", "/", "hooks.example.org"),
        ("https://hooks.example.org:/", "/", "hooks.example.org"),
        ("https://hooks.example.org:80/", "/", "hooks.example.org:80"),
        ("http://hooks.example.org:80/", "/", "hooks.example.org"),
        ("http://hooks.example.org:443/", "/", "hooks.example.org:443"),
        ("https://xn--bcher-kva.example/", "/", "xn--bcher-kva.example"),
        ("https://1.2.3.4:8443/", "/", "1.2.3.4:8443"),
        ("https://[2606:4700::1111]/", "/", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:8443/p", "/p", "[2606:4700::1111]:8443"),
    ],
)
def test_a_request_begins_with_path_and_host(url: str, path: str, host: str) -> None:
    assert target_of("POST", url).start == f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"


def test_urls_with_the_same_scheme_host_and_port_share_connections() -> None:
    def origin(url: str) -> str:
        return target_of("POST", url).origin

    assert origin("https://a.example/x") == origin("HTTPS://A.example:443?y") == origin("https://a.example")
    assert (
        len(
            {
                origin("https://a.example"),
                origin("http://a.example"),
                origin("https://a.example:8443"),
                origin("https://b.example"),
                origin("http://a.example:443"),
            }
        )
        == 5
    )


@pytest.mark.parametrize(
    "url",
    ["https://a.example/ b", "https://a.example/\r\nX-A: b", "https://a.example\t/", "https://a@b/", "/"],
)
def test_a_url_that_would_be_another_request_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrl):
        target_of("POST", url)


def test_only_a_body_has_a_length() -> None:
    target = target_of("GET", "http://a.example/")
    assert request_to(target, [], None) == (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"")
    assert request_to(target, [], b"") == (
        b"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n",
        b"",
    )
