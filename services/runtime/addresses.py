"""Which network addresses may be reached at a tenant's request (webhooks), and which may not.

An address counts as public only when no registry says otherwise. `ipaddress.is_global` is not enough: it lets
multicast, 6to4, NAT64, segment routing and further ranges pass. Sources: IANA's IPv4 and IPv6 Special-Purpose Address
Registries (RFC 6890), IPv4 Multicast Address Space, and IPv6 Address Space, of which only 2000::/3 is given out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ENTRIES_MAX = 200

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared by carriers (RFC 6598)
        "127.0.0.0/8",  # loopback (RFC 1122)
        "169.254.0.0/16",  # link local, and the metadata of clouds (RFC 3927)
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.31.196.0/24",  # AS112 (RFC 7535)
        "192.52.193.0/24",  # AMT relays (RFC 7450)
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "192.175.48.0/24",  # AS112 (RFC 7534)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved, and broadcast (RFC 1112)
    )
)
# All but this is not given out: loopback, mapped, NAT64, discard, segment routing, unique and link local, multicast.
_GIVEN_OUT_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, drone ids (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4: an IPv4 address in disguise (RFC 3056)
        "2620:4f:8000::/48",  # AS112 (RFC 7534)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_PORT = re.compile(r"(?P<host>.+):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_ENDS_IN_PORT = re.compile(r".*:(?P<port>[0-9]+)/?", re.DOTALL)
PORT_MAX = 65_535


def parse_address(text: str) -> Address | None:
    """Read a literal address as a resolver gives it; None for a name."""
    try:
        return plain(ip_address(text.strip("[]")))
    except ValueError:
        return None


def check_port(address: str, lowest: int = 1) -> None:
    """Refuse an address whose port is none; gRPC takes it modulo 65536, and reaches somebody else.

    Args:
        address: `host:port`, or another name that ends in a port or has none, as gRPC's may.
        lowest: 0 where that takes a free port.

    Raises:
        ValueError: the port is out of its bounds.
    """
    found = _ENDS_IN_PORT.fullmatch(address)
    # Python refuses to read thousands of digits.
    digits = found["port"].lstrip("0")[: len(str(PORT_MAX)) + 1] if found else ""
    if found and not lowest <= int(digits or "0") <= PORT_MAX:
        raise ValueError(
            f"{address[:100]!r} has no valid port: give one from {lowest} to {PORT_MAX}"
        )


def plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one only wraps (`::ffff:10.0.0.1`), else the same."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """True for an address that anybody may have: nothing on this machine, in this network or reserved."""
    address = plain(address)
    if not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    # A scope (`%eth0`) is of this machine's own making.
    if address.scope_id is not None or address not in _GIVEN_OUT_V6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_V6)


@dataclass(frozen=True, slots=True)
class AllowList:
    """What an operator lets be reached although it is not public.

    Attributes:
        networks: addresses, each with the port that is meant; None for every port.
        hosts: names, likewise: wherever such a name leads.
    """

    networks: tuple[tuple[Network, int | None], ...] = ()
    hosts: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, setting: str) -> AllowList:
        """Read `127.0.0.1/32, [fd00::1]:8443, hooks.internal:8080`.

        Raises:
            ValueError: an entry is neither address, network nor name.
        """
        networks: list[tuple[Network, int | None]] = []
        hosts: set[tuple[str, int | None]] = set()
        entries = [entry.strip() for entry in setting.split(",") if entry.strip()]
        if len(entries) > ENTRIES_MAX:
            raise ValueError(f"{len(entries)} entries; the limit is {ENTRIES_MAX}")
        for entry in entries:
            host, port = _split(entry)
            network = _network(host)
            if network is not None:
                networks.append((network, port))
            elif _NAME.fullmatch(host):
                hosts.add((host, port))
            else:
                raise ValueError(
                    f"{entry!r} is not an address, network or host name with an optional port"
                )
        return cls(tuple(networks), frozenset(hosts))

    def covers_host(self, host: str, port: int) -> bool:
        """True for a name, or a literal address, that the operator lists."""
        address = parse_address(host)
        if address is not None:
            return self.covers(address, port)
        name = host.lower().rstrip(".")
        return (name, None) in self.hosts or (name, port) in self.hosts

    def covers(self, address: Address, port: int) -> bool:
        """True for an address in a network that the operator lists."""
        address = plain(address)
        return any(
            address.version == network.version and address in network and listed in (None, port)
            for network, listed in self.networks
        )

    def permits(self, host: str, address: Address, port: int) -> bool:
        """True when a host that leads to this address may be reached."""
        return is_public(address) or self.covers_host(host, port) or self.covers(address, port)


def _split(entry: str) -> tuple[str, int | None]:
    """Cut the port off; `::1` has none, `[::1]:80` has."""
    found = _PORT.fullmatch(entry)
    if found is None or (":" in found["host"] and not found["host"].endswith("]")):
        return entry.lower().rstrip("."), None
    port = int(found["port"])
    if not 0 < port <= PORT_MAX:
        raise ValueError(f"{entry!r} has no valid port, which is 1 to {PORT_MAX}")
    return found["host"].lower().rstrip("."), port


def _network(text: str) -> Network | None:
    try:
        return ip_network(text.strip("[]"))
    except ValueError as error:
        if "/" in text:
            raise ValueError(f"{text!r} is not a network: {error}") from None
        return None
