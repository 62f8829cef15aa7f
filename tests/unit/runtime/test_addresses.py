"""Which addresses count as public, and what an operator's list lets through."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.addresses import AllowList, is_public, parse_address

# One or more of every kind that is not anybody's: by IANA's registries, and in every disguise of IPv6.
NOT_PUBLIC = {
    "this network": "0.0.0.0",
    "this network, inside": "0.1.2.3",
    "private, 10": "10.0.0.1",
    "private, 172.16": "172.16.5.4",
    "private, end of 172.16/12": "172.31.255.255",
    "private, 192.168": "192.168.1.1",
    "carriers": "100.64.0.1",
    "loopback": "127.0.0.1",
    "loopback, another": "127.255.0.9",
    "link local": "169.254.1.1",
    "metadata of clouds": "169.254.169.254",
    "protocol assignments": "192.0.0.8",
    "NAT64 discovery": "192.0.0.170",
    "documentation 1": "192.0.2.1",
    "documentation 2": "198.51.100.7",
    "documentation 3": "203.0.113.9",
    "AS112": "192.31.196.1",
    "AMT": "192.52.193.1",
    "6to4 relay": "192.88.99.1",
    "AS112 delegation": "192.175.48.1",
    "benchmarks": "198.19.255.254",
    "multicast": "224.0.0.1",
    "multicast, administrative": "239.255.255.250",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "v6 unspecified": "::",
    "v6 loopback": "::1",
    "v6 mapped loopback": "::ffff:127.0.0.1",
    "v6 mapped private": "::ffff:a00:1",
    "v6 compatible": "::7f00:1",
    "v6 translated": "::ffff:0:127.0.0.1",
    "NAT64 of a private one": "64:ff9b::10.0.0.1",
    "NAT64 of a public one": "64:ff9b::8.8.8.8",
    "NAT64, local": "64:ff9b:1::1",
    "discard": "100::1",
    "dummy": "100:0:0:1::1",
    "Teredo": "2001::1",
    "v6 benchmarks": "2001:2::1",
    "ORCHID": "2001:20::1",
    "v6 documentation": "2001:db8::1",
    "6to4 of a private one": "2002:a00:1::",
    "6to4 of a public one": "2002:808:808::",
    "v6 AS112": "2620:4f:8000::1",
    "v6 documentation, new": "3fff::1",
    "segment routing": "5f00::1",
    "unique local": "fd00::1",
    "unique local, fc": "fc00::1",
    "v6 link local": "fe80::1",
    "v6 link local with a scope": "fe80::1%eth0",
    "site local": "fec0::1",
    "v6 multicast": "ff02::1",
    "v6 multicast, global": "ff0e::1",
    "not given out": "4000::1",
    "a public one with a scope": "2606:4700::1111%1",
}


@pytest.mark.parametrize("text", NOT_PUBLIC.values(), ids=NOT_PUBLIC)
def test_what_is_nobodys_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.215.14",
        "172.15.255.255",
        "172.32.0.0",
        "100.128.0.1",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "2606:4700::1111",
        "2a00:1450:4001:81b::200e",
    ],
)
def test_what_anybody_may_have_is_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_the_library_alone_would_let_some_pass() -> None:
    passed = {name for name, text in NOT_PUBLIC.items() if ip_address(text).is_global}
    assert {"multicast, administrative", "NAT64 of a public one", "segment routing"} & passed


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_wraps(address: object) -> None:
    mapped = parse_address(f"::ffff:{address}")
    assert mapped == address
    assert is_public(ip_address(f"::ffff:{address}")) == is_public(ip_address(str(address)))


@given(st.ip_addresses())
def test_public_is_never_more_than_the_library_says(address: object) -> None:
    assert not is_public(ip_address(str(address))) or ip_address(str(address)).is_global


ALLOW = AllowList.parse(
    "10.1.0.0/16, 127.0.0.1, 192.168.0.5:8080,[fd00::1]:8443, ::1, hooks.internal:8080, Any.Internal."
)


@pytest.mark.parametrize(
    ("host", "port", "covered"),
    [
        ("10.1.2.3", 443, True),
        ("10.2.0.1", 443, False),
        ("127.0.0.1", 1, True),
        ("127.0.0.2", 1, False),
        ("::ffff:127.0.0.1", 1, True),
        ("192.168.0.5", 8080, True),
        ("192.168.0.5", 8081, False),
        ("fd00::1", 8443, True),
        ("fd00::1", 443, False),
        ("::1", 9, True),
        ("hooks.internal", 8080, True),
        ("hooks.internal", 443, False),
        ("HOOKS.internal.", 8080, True),
        ("any.internal", 99, True),
        ("more.any.internal", 99, False),
    ],
)
def test_the_list_covers_what_it_names(host: str, port: int, covered: bool) -> None:
    assert ALLOW.covers_host(host, port) is covered


def test_a_name_on_the_list_may_lead_anywhere_and_others_to_what_is_listed() -> None:
    private = ip_address("10.9.9.9")
    assert ALLOW.permits("any.internal", private, 443)
    assert not ALLOW.permits("other.internal", private, 443)
    assert ALLOW.permits("other.internal", ip_address("10.1.0.9"), 443)
    assert ALLOW.permits("other.internal", ip_address("8.8.8.8"), 443)


def test_an_empty_list_lets_nothing_through() -> None:
    empty = AllowList.parse(" , ")
    assert empty == AllowList()
    assert not empty.permits("localhost", ip_address("127.0.0.1"), 443)


@pytest.mark.parametrize(
    "setting", ["10.0.0.0/33", "10.0.0.1/8", "a b", "http://hooks", "host:0", "host:70000", "*"]
)
def test_an_entry_that_does_not_read_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"is not a|no valid port"):
        AllowList.parse(setting)


def test_the_list_is_bounded() -> None:
    with pytest.raises(ValueError, match="limit is 200"):
        AllowList.parse(",".join(f"h{n}" for n in range(201)))
