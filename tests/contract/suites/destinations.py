"""Endpoints that strangers may name, and what becomes of each: when it is made, and when it is connected to.

A vector's name has two rounds of answers: a name can be good when the subscription is made, and bad when a
delivery is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:4700::1111"
PRIVATE = "10.0.0.5"

NOT_PUBLIC = "publicly routable"
PRIVATE_NAME = "private networks"
NO_NAME = "not a host name"
ODD_ADDRESS = "usual form"
HOST = "must name a host"
PORT = "belongs to another protocol"


@dataclass(frozen=True)
class Vector:
    """`refused` is a part of what is said when it is made, "" when it is taken.

    `at_first` and `later` are what the host's name resolves to in turn; nothing: it does not exist.
    `reached`: what a delivery may connect to, which it does at exactly that address.
    """

    url: str
    refused: str = ""
    at_first: Sequence[str] = ()
    later: Sequence[str] = ()
    reached: Sequence[str] = ()

    def __str__(self) -> str:
        return self.url[:60] or "nothing"


def address(text: str) -> Vector:
    return Vector(f"https://{text}/hook", NOT_PUBLIC)


def name(text: str, at_first: Sequence[str], later: Sequence[str], refused: str = "") -> Vector:
    return Vector(f"https://{text}/hook", refused, at_first, later)


VECTORS = [
    # addresses that are not globally routable
    *map(
        address,
        [
            "0.0.0.0",  # noqa: S104 - not bound to
            "10.0.0.5", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.192",
            "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
            "255.255.255.255", "168.63.129.16", "[::]", "[::1]", "[::ffff:127.0.0.1]",
            "[::ffff:93.184.215.14]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]", "[2001:0:5ef5:79fd::1]", "[2002:7f00:1::]", "[2001:db8::1]",
            "[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[ff02::1]", "[fec0::1]",
        ],
    ),
    # names that lead to such addresses, at once, in part or later
    name("inside.example", [PRIVATE], [PRIVATE], NOT_PUBLIC),
    name("mixed.example", [PUBLIC, PRIVATE], [PUBLIC, PRIVATE], NOT_PUBLIC),
    name("mixed6.example", [PUBLIC, "fd00::1"], [PUBLIC, "fd00::1"], NOT_PUBLIC),
    name("mapped.example", ["::ffff:10.0.0.5"], ["::ffff:10.0.0.5"], NOT_PUBLIC),
    name("nat64.example", ["64:ff9b::a00:5"], ["64:ff9b::a00:5"], NOT_PUBLIC),
    name("turns.example", [PUBLIC], ["127.0.0.1"]),
    name("turns-to-metadata.example", [PUBLIC], ["169.254.169.254"]),
    name("turns-in-part.example", [PUBLIC], [PUBLIC, PRIVATE]),
    name("turns6.example", [PUBLIC_6], ["::1"]),
    # names for private networks, and what is no name
    *(Vector(f"https://{host}/", PRIVATE_NAME) for host in ["db", "localhost", "LOCALHOST", "a.localhost"]),
    *(Vector(f"https://{host}/", PRIVATE_NAME) for host in ["printer.local", "nas.home.arpa"]),
    *(Vector(f"https://{host}/", PRIVATE_NAME) for host in ["db.internal", "metadata.google.internal"]),
    *(Vector(f"https://{host}/", NO_NAME) for host in ["public.example.", "public..example", ".example"]),
    *(Vector(f"https://{host}/", NO_NAME) for host in ["-a.example", "a-.example", "a" * 64 + ".example"]),
    # addresses in other notations
    *(Vector(f"https://{host}/", ODD_ADDRESS) for host in ["2130706433", "127.1", "0x7f.1", "0x7f000001"]),
    *(Vector(f"https://{host}/", ODD_ADDRESS) for host in ["0177.0.0.1", "017700000001", "0", "256.1.1.1"]),
    *(Vector(f"https://{host}/", HOST) for host in ["[fe80::1%25eth0]", "a%2eexample", "[v1.a]", "a,b"]),
    # letters that turn into others
    Vector("https://\u24dbocalhost/", PRIVATE_NAME),
    Vector("https://\u2460\u2461\u2466.0.0.1/", NOT_PUBLIC),
    Vector("https://loc\u00adalhost/", "printable ASCII"),
    Vector("https://db\u3002internal/", PRIVATE_NAME),
    Vector("https://a\uff0fb.example/", HOST),
    Vector("https://a\u200db.example/", "printable ASCII"),
    Vector("https://h\u00f6st.example\t/", "printable ASCII"),
    Vector("https://h\u00f6st.example/\u00e4", "printable ASCII"),
    Vector("https://h\u00f6oks.example/hook", "", [PUBLIC], [PUBLIC], [PUBLIC]),
    # URLs
    Vector("https://user@public.example/", "user name or password"),
    Vector("https://public.example@127.0.0.1/", "user name or password"),
    Vector("https://us\u00e9r@public.example/", "printable ASCII"),
    Vector("http://public.example/", "https://"),
    Vector("ftp://public.example/", "https://"),
    Vector("file:///etc/passwd", "https://"),
    Vector("gopher://public.example/", "https://"),
    Vector("https:/public.example", HOST),
    Vector("https://public.example\\@127.0.0.1/", "printable ASCII"),
    Vector("https://public.example/\r\nX-Injected: a", "printable ASCII"),
    Vector("https://public.example/#a", "no fragment"),
    Vector("https://public.example:0/", "1 to 65535"),
    Vector("https://public.example:65536/", "must have a port from 1 to 65535"),
    *(Vector(f"https://public.example:{port}/", PORT) for port in [1, 22, 25, 53, 110, 143, 465, 587, 993]),
    *(Vector(f"https://public.example:{port}/", PORT) for port in [2049, 5060, 6000, 6566, 6667, 10080]),
    # what passes
    Vector(f"https://{PUBLIC}/hook", reached=[PUBLIC]),
    Vector(f"https://[{PUBLIC_6}]/hook", reached=[PUBLIC_6]),
    Vector("https://public.example/hook?a=b", "", [PUBLIC], [PUBLIC], [PUBLIC]),
    Vector("https://Public.Example:8443/hook", "", [PUBLIC], [PUBLIC], [PUBLIC]),
    Vector("https://both.example/hook", "", [PUBLIC, PUBLIC_6], [PUBLIC, PUBLIC_6], [PUBLIC, PUBLIC_6]),
    Vector("https://moves.example/hook", "", [PUBLIC], ["1.1.1.1"], ["1.1.1.1"]),
    Vector("https://nowhere.example/hook"),
]  # fmt: skip
