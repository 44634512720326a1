"""What a suite may open, how a pair is read, and where a name must not lead."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.egress import (
    MAX_PAIRS,
    Egress,
    Pair,
    Permit,
    VendorCloud,
    host_in,
    is_private,
    opened_in,
    pair_in,
    why_never,
    why_not_there,
)

CLOUD = VendorCloud(name="a-cloud", product="clamav", hosts=("cloud.example.com:443",))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Quotes.Example.KR:443", "quotes.example.kr:443"),
        ("quotes.example.kr.:443", "quotes.example.kr:443"),
        ("93.184.216.34:80", "93.184.216.34:80"),
        ("[2606:4700:0:0::1]:443", "[2606:4700::1]:443"),
        ("xn--9n2bp8q.kr:8443", "xn--9n2bp8q.kr:8443"),
        ("_dmarc-host.example:1", "_dmarc-host.example:1"),
    ],
)
def test_a_pair_is_read_in_one_form(text: str, read: str) -> None:
    assert pair_in(text).text == read
    assert Egress(hosts=(text,)).hosts == (read,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("quotes.example.kr", "no 'host:port'"),
        ("quotes.example.kr:0", "no port from 1 to 65535"),
        ("quotes.example.kr:65536", "no port from 1 to 65535"),
        ("quotes.example.kr:https", "no 'host:port'"),
        ("https://quotes.example.kr:443", "no 'host:port'"),
        ("quotes.example.kr:443/path", "no 'host:port'"),
        ("user@quotes.example.kr:443", "no host name"),
        ("*.example.kr:443", "a wildcard"),
        ("*:443", "a wildcard"),
        ("quotes..kr:443", "no host name"),
        ("-quotes.kr:443", "no host name"),
        ("시세.kr:443", "no host name"),
        ("127.1:443", "no host name"),
        ("2130706433:443", "no host name"),
        ("0x7f000001:443", "no host name"),
        ("0177.0.0.01:443", "no host name"),
        ("2606:4700::1:443", "no 'host:port'"),
        ("[fe80::1%eth0]:443", "no 'host:port'"),
        ("a" * 64 + ".kr:443", "no host name"),
        ("localhost:443", "name it under 'private_hosts'"),
        ("a.localhost:443", "name it under 'private_hosts'"),
        ("127.0.0.1:443", "name it under 'private_hosts'"),
        ("10.0.0.1:443", "name it under 'private_hosts'"),
        ("100.64.0.1:443", "name it under 'private_hosts'"),
        ("[::1]:443", "name it under 'private_hosts'"),
        ("[fd00::1]:443", "name it under 'private_hosts'"),
        ("[::ffff:10.0.0.1]:443", "name it under 'private_hosts'"),
        ("169.254.169.254:80", "can never be opened"),
        ("[fe80::1]:80", "can never be opened"),
        ("[::ffff:169.254.169.254]:80", "can never be opened"),
        ("168.63.129.16:80", "can never be opened"),
        ("224.0.0.1:80", "can never be opened"),
        ("0.0.0.0:80", "can never be opened"),
    ],
)
def test_what_is_no_host_of_the_internet_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why.replace("*", r"\*")):
        Egress(hosts=(text,))


def test_private_hosts_may_be_here_and_never_metadata() -> None:
    here = ("localhost:8443", "10.0.0.1:443", "[::1]:443", "test.internal:80")
    assert Egress(private_hosts=here).private_hosts == here
    with pytest.raises(ValidationError, match="can never be opened"):
        Egress(private_hosts=("169.254.169.254:80",))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "opens nothing"),
        ({"hosts": ("a.kr:1", "A.kr.:1")}, "twice"),
        ({"hosts": ("a.kr:1",), "private_hosts": ("a.kr:1",)}, "twice"),
        ({"hosts": ("cloud.example.com:443",), "vendor_clouds": (CLOUD,)}, "twice"),
        ({"vendor_clouds": (CLOUD, VendorCloud(name="a-cloud", product="x", hosts=("b.kr:1",)))}, "two of one name"),
        ({"hosts": tuple(f"h{n}.kr:1" for n in range(MAX_PAIRS + 1))}, "is the most"),
    ],
)
def test_a_suite_opens_something_and_each_pair_once(given: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Egress.model_validate(given)


def test_a_cloud_is_open_to_its_own_product_alone() -> None:
    both = Egress(hosts=("a.kr:1",), vendor_clouds=(CLOUD,))
    assert both.for_product("clamav") == both
    assert both.for_product("none") == Egress(hosts=("a.kr:1",))
    assert Egress(vendor_clouds=(CLOUD,)).for_product("none") is None


def test_what_is_open_is_said_in_one_line() -> None:
    assert opened_in(Egress(hosts=("a.kr:1",), private_hosts=("b.kr:2",))) == "a.kr:1, b.kr:2"
    assert opened_in(Egress(vendor_clouds=(CLOUD,))) == "cloud 'a-cloud' of clamav (cloud.example.com:443)"


def test_a_pair_is_open_for_what_it_was_named_for_and_only_at_its_port() -> None:
    egress = Egress(hosts=("a.kr:443",), private_hosts=("b.kr:443",), vendor_clouds=(CLOUD,))
    assert egress.permit_for(Pair("a.kr", 443)) == Permit(Pair("a.kr", 443), None, private=False)
    assert egress.permit_for(Pair("b.kr", 443)) == Permit(Pair("b.kr", 443), None, private=True)
    assert egress.permit_for(Pair("cloud.example.com", 443)) == Permit(
        Pair("cloud.example.com", 443), "a-cloud", private=False
    )
    for other in (Pair("a.kr", 80), Pair("x.a.kr", 443), Pair("kr", 443), Pair("cloud.example.co", 443)):
        assert egress.permit_for(other) is None


# --- addresses --------------------------------------------------------------------------------------------------------

EMBEDDINGS = ("::ffff:0:0", "64:ff9b::", "::")


@given(st.integers(0, 2**32 - 1), st.sampled_from(EMBEDDINGS))
def test_an_ipv4_address_is_no_other_one_in_the_clothes_of_ipv6(number: int, clothes: str) -> None:
    plain = ipaddress.IPv4Address(number)
    dressed = ipaddress.IPv6Address(int(ipaddress.IPv6Address(clothes)) + number)
    if clothes == "::" and number <= 1:
        return  # :: and ::1 are addresses of their own
    for private in (False, True):
        permit = Permit(Pair("a.kr", 1), None, private=private)
        assert (why_not_there(permit, plain) is None) == (why_not_there(permit, dressed) is None)


@given(st.ip_addresses())
@example(ipaddress.ip_address("2002:100::"))
@example(ipaddress.ip_address("2002:7f00:1::"))
@example(ipaddress.ip_address("::ffff:10.0.0.1"))
def test_a_public_host_leads_to_public_addresses_alone(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if why_not_there(Permit(Pair("a.kr", 1), None, private=False), address) is None:
        # An IPv6 address that only stands for an IPv4 address leads there (RFC 3056, RFC 4291).
        there = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        assert there.is_global
        assert True not in {address.is_multicast, address.is_loopback, address.is_link_local}


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are_reached(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert (why_never(address), is_private(address)) == (None, False)


@given(st.text(max_size=80))
def test_any_text_is_one_host_or_none(text: str) -> None:
    try:
        host = host_in(text)
    except ValueError:
        return
    assert host.isascii()
    assert host_in(f"[{host}]" if ":" in host else host) == host


@given(st.text(max_size=80))
def test_any_text_is_one_pair_or_none(text: str) -> None:
    try:
        pair = pair_in(text)
    except ValueError:
        return
    assert pair_in(pair.text) == pair
