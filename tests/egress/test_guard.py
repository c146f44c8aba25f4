"""Which addresses and which URLs pass, range by range and spelling by spelling."""

import json
import random
import subprocess
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.egress.addresses import is_private, is_public, parse_address
from statebacked.egress.urls import normal, parse_url
from statebacked.ports.egress import EgressRefused
from tests.runtime.driver import find_deno

CLOSED = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("::/128", "::1/128", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48"),
    *("2001:10::/28", "2001:20::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/3", "5f00::/16"),
    *("fc00::/7", "fd00::/8", "fe80::/10", "fec0::/10", "ff00::/8"),
]
OPEN = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255"),
    *("192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("223.255.255.255", "2001:200::1", "2606:4700::1111", "2a00:1450:4001::200e", "2001:db7::", "2003::"),
    *("3ffe::1", "2fff:ffff::"),
]


@pytest.mark.parametrize("network", CLOSED)
def test_no_address_of_a_special_range_is_public(network: str) -> None:
    range_ = ip_network(network)
    for address in (range_[0], range_[-1], range_[range_.num_addresses // 2]):
        assert not is_public(address), address


@pytest.mark.parametrize("address", OPEN)
def test_the_neighbours_of_the_special_ranges_are_public(address: str) -> None:
    assert is_public(parse_address(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_does_not_call_global(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not is_private(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::", "::"]))
def test_an_ipv4_address_inside_an_ipv6_one_gains_nothing(inner: IPv4Address, prefix: str) -> None:
    shift = 80 if prefix == "2002::" else 0
    outer = str(IPv6Address(int(IPv6Address(prefix)) | int(inner) << shift))
    address = parse_address(outer)
    assert is_public(address) == (prefix == "::ffff:0:0" and is_public(inner))


@given(st.ip_addresses(v=6).filter(lambda address: address in IPv6Network("2000::/3")))
def test_an_address_with_a_zone_is_none(address: IPv6Address) -> None:
    with pytest.raises(ValueError, match="zone"):
        parse_address(f"{address}%1")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.9.8.7", "172.31.0.1", "192.168.1.1", "100.100.0.1", "::1", "fd12::1"]
)
def test_private_networks_are_what_development_opens(address: str) -> None:
    assert is_private(ip_address(address))
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "255.255.255.255", "192.0.2.1"]
)
def test_link_local_multicast_and_reserved_ones_stay_closed(address: str) -> None:
    assert not is_private(ip_address(address))


# --- URLs


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://example.com/", ("http", "example.com", 80), "/"),
        ("https://example.com", ("https", "example.com", 443), "/"),
        ("https://a.example:8443/b?c=%20#d", ("https", "a.example", 8443), "/b?c=%20"),
        ("https://example.com?q", ("https", "example.com", 443), "/?q"),
        ("http://example.com:443/", ("http", "example.com", 443), "/"),
        ("https://[2606:4700::1111]/x", ("https", "2606:4700::1111", 443), "/x"),
        ("http://1.1.1.1:1024/", ("http", "1.1.1.1", 1024), "/"),
        ("http://127.0.0.1#@example.com/x y", ("http", "127.0.0.1", 80), "/"),
        ("http://a_b.example/", ("http", "a_b.example", 80), "/"),
    ],
)
def test_a_url_is_read(url: str, origin: tuple[str, str, int], path: str) -> None:
    target = parse_url(url)
    assert (target.origin, target.path) == (origin, path)
    assert parse_url(target.url) == target


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "only http: and https:"),
        ("file:///etc/passwd", "only http: and https:"),
        ("data:text/plain,x", "only http: and https:"),
        ("HTTP://example.com/", "only http: and https:"),
        ("http://u:p@example.com/", "user name"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:1023/", "port 1023"),
        ("http://example.com:65536/", "port 65536"),
        ("http://example.com:/", "cannot be read"),
        ("http:///x", "cannot be read"),
        ("http://exa mple.com/", "cannot be read"),
        ("http://example.com/a b", "cannot be read"),
        ("http://example.com/\r\nx: y", "cannot be read"),
        ("http://example.com\\@127.0.0.1/", "user name"),
        ("http://EXAMPLE.com/", "cannot be read"),
        ("http://ex%61mple.com/", "cannot be read"),
        ("http://bücher.example/", "cannot be read"),
        ("http://[fe80::1%25eth0]/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://[1:2]/", "neither a name nor an address"),
        ("http://2130706433/", "neither a name nor an address"),
        ("http://0x7f000001/", "neither a name nor an address"),
        ("http://0x7f.1/", "neither a name nor an address"),
        ("http://0177.0.0.1/", "neither a name nor an address"),
        ("http://127.1/", "neither a name nor an address"),
        ("http://127.0.0.1./", "neither a name nor an address"),
        ("http://example.com.1/", "neither a name nor an address"),
        ("http://a.0x1/", "neither a name nor an address"),
    ],
)
def test_a_url_that_two_might_read_differently_is_refused(url: str, reason: str) -> None:
    with pytest.raises(EgressRefused, match=reason):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "base", "outcome"),
    [
        ("HTTPS://Example.com/A b", "", "https://example.com/A%20b"),
        (" https://example.com/?a=b&c[]=d%20e#f ", "", "https://example.com/?a=b&c[]=d%20e"),
        ("https://[2606:4700::1111]:8443/x", "", "https://[2606:4700::1111]:8443/x"),
        ("https://bücher.example/", "", "https://xn--bcher-kva.example/"),
        ("/x?y", "https://a.example/b/c", "https://a.example/x?y"),
        ("../x", "https://a.example/b/c/d", "https://a.example/b/x"),
        ("//b.example/x", "https://a.example/b", "https://b.example/x"),
        ("?z=ü", "https://a.example/b", "https://a.example/b?z=%C3%BC"),
    ],
)
def test_what_people_and_redirects_write_becomes_a_strict_url(url: str, base: str, outcome: str) -> None:
    assert normal(url, base) == outcome
    parse_url(outcome)


@pytest.mark.parametrize(
    "url", ["http://[", "http://[::1", "http://a:b/", "http://a:99999/", "http://a..b\u2024/"]
)
def test_what_is_no_url_at_all_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused, match="cannot be read"):
        parse_url(normal(url))


ODD_PARTS = {
    "scheme": [
        "http:",
        "https:",
        "HTTP:",
        "http:/",
        "https://",
        "http:///",
        "http:\\\\",
        " http://",
        "ht\ttp://",
    ],
    "user": ["", "", "", "u@", "u:p@", "@", "127.0.0.1@", "example.com:80@", "a%40b@"],
    "host": [
        *(
            "example.com",
            "EXAMPLE.com",
            "ex%61mple.com",
            "127.0.0.1",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
            "[::1]",
        ),
        *(
            "[::ffff:7f00:1]",
            "127.0.0.1.",
            "1.2.3",
            "a.1",
            "256.1.1.1",
            "0x",
            "a_b.example",
            "bücher.example",
        ),
        *(
            "①②⑦.⓪.0.1",
            "example.com%00.test",
            "exa mple.com",
            "127。0。0。1",
            "xn--a.test",
            "a..b",
            "-a.b",
            "[fe80::1%25eth0]",
        ),
    ],
    "port": ["", "", ":80", ":443", ":0", ":22", ":8080", ":", ":080", ":65536", ":99999", ":8_0"],
    "path": [
        "",
        "/",
        "/a b",
        "//x",
        "/\\x",
        "?q",
        "#f",
        "/%2e%2e/",
        "/..//..",
        "\\@example.org/",
        "/é",
        ";a",
    ],
}
READ_BY_THE_WEB = """
  const urls = JSON.parse(await new Response(Deno.stdin.readable).text());
  console.log(JSON.stringify(urls.map((url) => { try {
    const { href, protocol, hostname, port, username, password } = new URL(url);
    return [href, protocol, hostname, port, username + password];
  } catch { return null } })));
"""


def test_the_webs_reading_of_a_url_and_ours_agree_on_the_host_or_ours_refuses() -> None:
    """A worker sends what the web's parser has written; nothing may then lead elsewhere than the web says."""
    dice = random.Random(7)
    urls = ["".join(dice.choice(part) for part in ODD_PARTS.values()) for _ in range(4_000)]
    command = [find_deno(), "eval", "--no-config", "--no-lock", READ_BY_THE_WEB]
    said = subprocess.run(
        command, input=json.dumps(urls), capture_output=True, text=True, check=True, timeout=60
    )
    read = refused = 0
    for url, web in zip(urls, json.loads(said.stdout), strict=True):
        if web is None:
            continue
        href, protocol, hostname, port, user = web
        try:
            target = parse_url(href)
        except EgressRefused:
            refused += 1
            continue
        read += 1
        assert (target.scheme + ":", target.name) == (protocol, hostname.strip("[]")), url
        assert target.port == int(port or {"http:": 80, "https:": 443}[protocol]), url
        assert not user, url
    assert read > 500
    assert refused > 500
