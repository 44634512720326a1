"""Pure. What a guest may reach outside itself: named pairs of host and port, a vendor's cloud apart from the program's.

1. Nothing is open that is not named, and a name is one host and one port: no wildcards, no ranges.
2. What names this machine or its network (loopback, private addresses) has a key of its own; clouds' metadata services
   can never be named, nor be reached by a name that leads to them.
3. Which pair an address was reached by is always clear: a pair is named once.

Source: RFC 952 and 1123 (host names); RFC 6890 and the IANA special-purpose registries (addresses).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from harness.frozen import Frozen

#: Each pair has an address of its own in the guest.
MAX_PAIRS = 64

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
#: A last label of these forms makes a name an address to some programs (inet_aton(3): ``127.1``, ``0x7f.1``).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PAIR = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
_CLOUD_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where clouds tell a machine its own secrets, beside the link-local addresses that all of them use.
#: Source: the documentation of AWS (IPv6), Azure (WireServer), Alibaba Cloud and Oracle Cloud.
METADATA = frozenset(
    ipaddress.ip_address(a) for a in ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class Pair(NamedTuple):
    """One host and one port. ``host`` is a name in lower case without a final dot, or an address as it is written."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """Give ``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """Give the address when the host is one."""
        return address_in(self.host)


def address_in(host: str) -> Address | None:
    """Give the address that a host is; None when it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def host_in(text: str) -> str:
    """Give a host as it is compared: a name in lower case, without its final dot, or an address in its shortest form.

    Raises:
        ValueError: It is neither. ``127.1`` and ``0x7f000001`` are no names, and no address that we read.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address = address_in(bare)
    if address is not None and (address.version == 6) == (bare is not text):  # noqa: PLR2004 - IPv6
        if "%" in bare:
            msg = f"'{text}' has a zone, and no link of this machine can be reached"
            raise ValueError(msg)
        return str(address)
    name = text.lower().removesuffix(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name) or _NUMBER.fullmatch(name.rpartition(".")[2]):  # noqa: PLR2004
        msg = f"'{text[:80]}' is no host name"
        raise ValueError(msg)
    return name


def pair_in(text: str) -> Pair:
    """Read ``host:port``; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is none, in one clause.

    Example:
        >>> pair_in("Quotes.example.kr:443").text
        'quotes.example.kr:443'
    """
    match = _PAIR.fullmatch(text)
    if match is None:
        msg = f"'{text[:80]}' is no 'host:port'"
        raise ValueError(msg)
    port = int(match["port"])
    if not 1 <= port <= 65535:  # noqa: PLR2004 - TCP's ports
        msg = f"'{text}' has no port from 1 to 65535"
        raise ValueError(msg)
    return Pair(host_in(match["host"]), port)


def why_never(address: Address) -> str | None:
    """Say why nobody may reach an address, whatever a suite names; None when somebody may."""
    inner = _inner(address)
    if inner in METADATA or address in METADATA or inner.is_link_local or address.is_link_local:
        return "a metadata or link-local address"
    if inner.is_multicast or inner.is_unspecified or (inner.is_reserved and not inner.is_loopback):
        return "no address of a machine"
    if isinstance(inner, ipaddress.IPv4Address) and inner in ipaddress.IPv4Network("0.0.0.0/8"):
        return "no address of a machine"
    return None


def is_private(address: Address) -> bool:
    """Tell whether an address is this machine's or its network's, and so nobody's on the Internet."""
    return not _inner(address).is_global


def _inner(address: Address) -> Address:
    """Give the IPv4 address that an IPv6 address stands for (RFC 4291, 6052, 3056); else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    mapped = address.ipv4_mapped or address.sixtofour
    if mapped is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        mapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return mapped or address


def _pair_text(text: str) -> str:
    pair = pair_in(text)
    why = why_never(pair.address) if pair.address is not None else None
    if why is not None:
        msg = f"'{text}' is {why} and can never be opened"
        raise ValueError(msg)
    return pair.text


def _public_text(text: str) -> str:
    if "*" in text:
        msg = f"'{text}' has a wildcard; name each host, because what is opened is part of the verdict"
        raise ValueError(msg)
    found = _pair_text(text)
    pair = pair_in(found)
    local = pair.host == "localhost" or pair.host.endswith(".localhost")
    if local or (pair.address is not None and is_private(pair.address)):
        msg = f"'{text}' is this machine or its network; name it under 'private_hosts', if that is meant"
        raise ValueError(msg)
    return found


_PAIR_SCHEMA = {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:*/ ]+):[0-9]{1,5}$"}

#: ``host:port`` on the Internet.
PublicPair = Annotated[str, AfterValidator(_public_text), WithJsonSchema(_PAIR_SCHEMA)]
#: ``host:port`` anywhere, this machine and its network included.
AnyPair = Annotated[str, AfterValidator(_pair_text), WithJsonSchema(_PAIR_SCHEMA)]


class VendorCloud(Frozen):
    """What a security product asks its vendor, by name. Open in the cells of this product alone."""

    name: str = Field(pattern=_CLOUD_NAME)
    product: str = Field(min_length=1, description="The product of the suite whose cells reach it.")
    hosts: tuple[PublicPair, ...] = Field(min_length=1, description="host:port pairs.")


class Permit(NamedTuple):
    """What one pair is open for. ``cloud`` names the vendor's; None is the program's own."""

    pair: Pair
    cloud: str | None
    private: bool


class Egress(Frozen):
    """What guests may reach outside themselves. All of it goes through one recording proxy."""

    hosts: tuple[PublicPair, ...] = Field(
        default=(), description="host:port pairs on the Internet that the program itself needs."
    )
    private_hosts: tuple[AnyPair, ...] = Field(
        default=(), description="The same, where they may lead to this machine or its network (a test server)."
    )
    vendor_clouds: tuple[VendorCloud, ...] = Field(
        default=(),
        description="What products ask their vendors; cells with one open are never answered from the store.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        named = [permit.pair.text for permit in self.permits()]
        if not named:
            msg = "'egress' opens nothing; write 'egress: none', or name 'hosts'"
            raise ValueError(msg)
        if len(named) > MAX_PAIRS:
            msg = f"'egress' opens {len(named)} pairs, and {MAX_PAIRS} is the most"
            raise ValueError(msg)
        twice = sorted({text for text in named if named.count(text) > 1})
        if twice:
            msg = f"'egress' names '{twice[0]}' twice, so that nobody could tell whose it was"
            raise ValueError(msg)
        clouds = [cloud.name for cloud in self.vendor_clouds]
        if len(set(clouds)) < len(clouds):
            msg = "'vendor_clouds' has two of one name"
            raise ValueError(msg)
        return self

    def permits(self) -> Iterator[Permit]:
        """Give every open pair with what it is open for: hosts, private hosts, clouds, each in the order written."""
        yield from (Permit(pair_in(text), None, private=False) for text in self.hosts)
        yield from (Permit(pair_in(text), None, private=True) for text in self.private_hosts)
        for cloud in self.vendor_clouds:
            yield from (Permit(pair_in(text), cloud.name, private=False) for text in cloud.hosts)

    def permit_for(self, pair: Pair) -> Permit | None:
        """Give what a pair is open for; None when it is not."""
        return next((permit for permit in self.permits() if permit.pair == pair), None)

    def for_product(self, product: str) -> Egress | None:
        """Give what a cell with a product may reach, its vendor's clouds among it; None when that is nothing."""
        clouds = tuple(cloud for cloud in self.vendor_clouds if cloud.product == product)
        if not (self.hosts or self.private_hosts or clouds):
            return None
        return self.model_copy(update={"vendor_clouds": clouds})


def opened_in(egress: Egress) -> str:
    """Say in one line what is open, each cloud by its name.

    Example:
        >>> opened_in(Egress(hosts=("a.kr:443",)))
        'a.kr:443'
    """
    clouds = (f"cloud '{cloud.name}' of {cloud.product} ({', '.join(cloud.hosts)})" for cloud in egress.vendor_clouds)
    return "; ".join(part for part in (", ".join((*egress.hosts, *egress.private_hosts)), *clouds) if part)


def why_not_there(permit: Permit, address: Address) -> str | None:
    """Say why a pair is not reached at the address that its name leads to; None when it is.

    A name that leads elsewhere today than yesterday (DNS rebinding) opens nothing on this machine or its network.
    """
    why = why_never(address)
    if why is None and is_private(address) and not permit.private:
        why = "an address of this machine or its network"
    return None if why is None else f"it leads to {why}"
