"""The addresses that a stranger may make us connect to: those that are globally routable."""

import ipaddress
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments (RFC 6890), of which older Pythons know a part only
        "192.88.99.0/24",  # 6to4 relay anycast, deprecated (RFC 7526)
        "168.63.129.16/32",  # the host that an Azure machine runs on: public by number, private by meaning
    )
)
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible, deprecated (RFC 4291 2.5.5.1); holds :: and ::1 too
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291 2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052): the embedded address decides, and we don't follow it
        "64:ff9b:1::/48",  # local-use NAT64 (RFC 8215)
        "2001::/23",  # IETF protocol assignments (RFC 2928): Teredo, benchmarking, ORCHID
        "2002::/16",  # 6to4 (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
        "fec0::/10",  # site-local, deprecated (RFC 3879)
    )
)


def is_globally_routable(address: IpAddress) -> bool:
    """True if an address is public by the IANA special-purpose registries, and hides no other address."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address.scope_id is None and not any(address in network for network in _REFUSED_V6)
    return not any(address in network for network in _REFUSED_V4)
