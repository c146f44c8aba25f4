"""Code that has the server ask for it what it may not ask itself: every spelling of every address inside."""

import json

import pytest

from tests.e2e.asking import answered
from tests.e2e.attacks.arena import Arena

INSIDE = [
    *(
        "http://127.0.0.1",
        "http://localhost",
        "http://LOCALHOST",
        "http://127.1",
        "http://0",
        "http://0.0.0.0",
    ),
    *(
        "http://2130706433",
        "http://0x7f000001",
        "http://017700000001",
        "http://0177.0.0.1",
        "http://127.0.0.1.",
    ),
    *(
        "http://[::1]",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]",
        "http://[::127.0.0.1]",
    ),
    *("http://[64:ff9b::7f00:1]", "http://[2002:7f00:1::]", "http://[fe80::1]", "http://[fc00::1]"),
    *(
        "http://169.254.169.254",
        "http://10.0.0.1",
        "http://192.168.0.1",
        "http://172.16.0.1",
        "http://100.64.0.1",
    ),
    *(
        "http://192.0.2.1",
        "http://198.18.0.1",
        "http://224.0.0.1",
        "http://255.255.255.255",
        "http://240.0.0.1",
    ),
    *("http://\u2488\u2468.0.0.1", "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3"),
    *("http://a@127.0.0.1", "http://127.0.0.1#@example.com", "http://example.com:80@127.0.0.1"),
    *("http:127.0.0.1", "http:/\\127.0.0.1", "http://127.0.0.1\\@example.com", " http://127.0.0.1 "),
]
OTHERWISE = [
    *(
        "file:///etc/passwd",
        "file:///proc/self/environ",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "data:,x",
    ),
    *(
        "blob:null/x",
        "ws://127.0.0.1/",
        "unix:/tmp/x",
        "http+unix://%2Ftmp%2Fx/",
        "javascript:1",
        "about:blank",
    ),
    *(
        "http://example.com:22/",
        "http://example.com:25/",
        "http://example.com:0/",
        "//127.0.0.1/",
        "/metrics",
        "",
    ),
]
ASK = """const asked = await Promise.all(URLS.map((url) => fetch(url, { redirect: "error" })
  .then(({ status }) => `${status}`, (e) => e.name + ": " + e.message)));
  return asked"""


def outcome(arena: Arena, urls: list[str]) -> list[str]:
    attacker = arena.attacker()
    found: list[str] = []
    for start in range(0, len(urls), 16):
        code = ASK.replace("URLS", json.dumps(urls[start : start + 16]))
        found += answered(attacker.send("service", code))["publicContext"]["outcome"]
    assert attacker.must_count() > 1
    return found


@pytest.mark.parametrize("where", ["", "PORT"])
def test_no_spelling_of_an_address_inside_is_asked(field: Arena, where: str) -> None:
    """Also not the port of this very server, which would answer."""
    port = field.server.url.rpartition(":")[2]
    urls = [url.rstrip() + f":{port}" if where and url[-1].isalnum() else url for url in INSIDE]
    for url, told in zip(urls, outcome(field, urls), strict=True):
        assert told.startswith("TypeError: "), f"{url} was asked: {told}"
        assert "cannot be reached" not in told, f"{url} was tried"


def test_nothing_but_http_on_ports_of_http_is_asked(field: Arena) -> None:
    for url, told in zip(OTHERWISE, outcome(field, OTHERWISE), strict=True):
        assert told.startswith("TypeError: "), f"{url} was asked: {told}"


@pytest.mark.parametrize("where", ["guard", "assign"])
def test_what_computes_a_step_asks_nothing(field: Arena, where: str) -> None:
    attacker = field.attacker()
    refusal = attacker.send(where, "fetch('http://example.com/'); return {}")
    assert refusal.json()["code"] == "machine-error"
    assert "fetch is not allowed here" in refusal.text or "requestId" in refusal.text
    assert attacker.must_count() == 2
