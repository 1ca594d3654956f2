"""Which addresses may be called: the text of a URL, and the numbers its host resolves to.

Opens no connection.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from outbound.failures import BadAddress, Blocked

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
LONGEST_URL = 4096
LONGEST_HOST = 253
REMEMBERED = 4096
"""Addresses whose text was found good, for a drain uses the same ones all day. None with a query: that is private."""

# IANA IPv4 and IPv6 Special-Purpose Address Registries, multicast, and addresses that clouds use for
# metadata. `ipaddress.is_global` is not used: it lets a third of these pass on Python 3.11.
SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 "
        "198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32 168.63.129.16/32 "
        "::/96 ::1/128 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 "
        "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 "
        "ff00::/8"
    ).split()
)
# Prefixes under which an IPv4 address hides in the last 32 bits; ISATAP is found by its interface id.
ISATAP = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True)
class Policy:
    """What an operator allows beyond the public internet on the usual port."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    """(host name or literal, port) that may be called whatever it resolves to."""
    networks: tuple[Network, ...] = ()
    """Internal networks that may be called, over https."""
    ports: frozenset[int] = frozenset({443})

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a comma-separated list of `host:port` and CIDR. Raises ValueError in plain words."""
        hosts: set[tuple[str, int]] = set()
        networks: list[Network] = []
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            host, _, port = entry.rpartition(":")
            if "/" in entry:
                networks.append(_network(entry))
            elif host and port.isdigit() and 0 < int(port) < 65536:
                hosts.add((host.strip("[]"), int(port)))
            else:
                raise ValueError(f"CARDKEY_OUTBOUND_ALLOW: '{entry}' is neither host:port nor a network in CIDR form.")
        return cls(frozenset(hosts), tuple(networks))

    def names(self, host: str, port: int) -> bool:
        """Whether this very host and port was allowed."""
        return (host.strip("[]").lower(), port) in self.hosts

    def check_address(self, host: str, port: int, address: str) -> None:
        """Refuse an address that must not be reached as `host:port`. Raises Blocked."""
        if self.names(host, port):
            return
        number = ipaddress.ip_address(address.partition("%")[0])
        if any(number in network for network in self.networks if network.version == number.version):
            return
        if is_special(number) or is_own(number):
            raise Blocked(host, unreachable(host))


def is_special(address: Address) -> bool:
    """Whether an address is anything but an ordinary public one, directly or with an IPv4 address inside."""
    if any(address in network for network in SPECIAL if network.version == address.version):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        low = int(address) & 0xFFFFFFFFFFFFFFFF
        return low >> 32 in ISATAP and is_special(ipaddress.IPv4Address(low & 0xFFFFFFFF))
    return False


def is_own(address: Address) -> bool:
    """Whether this very machine has the address: only then can a socket be bound to it.

    Where the system lets sockets be bound to any address, nothing can be told, and nothing is refused.
    """
    nobodys = "192.0.2.1" if address.version == 4 else "2001:db8::1"
    return _can_be_bound(address) and not _can_be_bound(ipaddress.ip_address(nobodys))


def _can_be_bound(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def check_url(url: str, policy: Policy) -> str:
    """The URL, if its text alone gives no reason to refuse it; no name is resolved.

    Raises BadAddress with words for a form field, or Blocked for an internal address literal.
    """
    host, port, literal = (_remembered if "?" not in url else _checked)(url, policy)
    if literal is not None:
        policy.check_address(host, port, literal)
    return url


def _checked(url: str, policy: Policy) -> tuple[str, int, str | None]:
    """Host, port, and the address if it is one in numbers, which is checked anew each time: this machine's change."""
    parts = _split(url)
    host = parts.hostname or ""
    port = _port(parts)
    _check_scheme(parts, host, port, policy)
    if parts.username is not None or parts.password is not None:
        raise BadAddress(host, "Leave user name and password out of the address.")
    if "#" in url:
        raise BadAddress(host, "Leave out the part from # on; it is never sent.")
    literal = _literal(host)
    if literal is None and "[" in parts.netloc:
        raise BadAddress(host, "Only an IPv6 address may stand in brackets.")
    if literal is None and not policy.names(host, port):
        _check_name(host)
    if port not in policy.ports and not policy.names(host, port):
        if literal is not None:
            policy.check_address(host, port, str(literal))
        raise BadAddress(host, f"Port {port} may not be called. Use the usual https port, 443.")
    return host, port, None if literal is None else str(literal)


_remembered = lru_cache(maxsize=REMEMBERED)(_checked)


def origin(url: str) -> str:
    """`host`, or `host:port` where the port is not the scheme's usual one; lower case.

    Of something that is no address, the text itself: it equals no origin, and is never called.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return url
    host = f"[{host}]" if ":" in host else host
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return host if port in (None, usual) else f"{host}:{port}"


def _split(url: str) -> SplitResult:
    if len(url) > LONGEST_URL:
        raise BadAddress("", "This address is too long.")
    if any(ord(char) < 33 or ord(char) == 127 for char in url):
        raise BadAddress("", "An address has no blanks or control characters in it.")
    if "\\" in url or not url.isascii():
        raise BadAddress("", "Write the address in plain ASCII: an international name as xn--…, no backslash.")
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.username
    except ValueError:
        raise BadAddress("", "This is not a complete address such as https://api.example.com/orders.") from None
    if "%" in parts.netloc:
        raise BadAddress("", "The host name in this address is not valid.")
    if not parts.scheme or not parts.hostname:
        raise BadAddress("", "Enter the whole address, starting with https://")
    return parts


def _port(parts: SplitResult) -> int:
    usual = 443 if parts.scheme == "https" else 80
    try:
        port = usual if parts.port is None else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadAddress(parts.hostname or "", "The port in this address is not a number between 1 and 65535.")
    return port


def _check_scheme(parts: SplitResult, host: str, port: int, policy: Policy) -> None:
    if parts.scheme == "https":
        return
    literal = _literal(host)
    loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    if parts.scheme == "http" and loopback and policy.names(host, port):
        return
    raise BadAddress(host, "The address must start with https://")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_name(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    if len(host) > LONGEST_HOST or not all(HOST_LABEL.fullmatch(label) and not _is_odd(label) for label in labels):
        raise BadAddress(host, "The host name in this address is not valid.")
    if re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", labels[-1]):
        raise BadAddress(host, "Write a host name, or an address in its usual form such as 192.0.2.10.")
    if len(labels) < 2 or labels[-1] in ("localhost", "local", "internal", "localdomain", "onion", "arpa"):
        raise Blocked(host, unreachable(host))


def _is_odd(label: str) -> bool:
    """Whether an international label hides something: no Punycode, plain ASCII, or other letters than shown."""
    if not label.startswith("xn--"):
        return False
    try:
        letters = label[4:].encode().decode("punycode")
    except UnicodeError:
        return True
    return letters.isascii() or unicodedata.normalize("NFKC", letters.lower()) != letters


def unreachable(host: str) -> str:
    """Said alike of a host that may not be called, is not there, or lets nobody in: nobody maps a network by it."""
    return (
        f"{host} cannot be reached from here. An internal address can be called only when an operator has named it in "
        "CARDKEY_OUTBOUND_ALLOW."
    )


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"CARDKEY_OUTBOUND_ALLOW: '{text}' is not a network such as 10.1.0.0/16.") from None
