"""Tokens: every rule by which one is taken or refused."""

import base64
import hmac
import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey

from statebacked.auth.jwt import PUBLISHED_AUDIENCE, import_secret, read_token, verify
from statebacked.model.errors import MissingUser
from statebacked.model.ids import Instant
from statebacked.model.limits import TOKEN_BYTES_MAX
from statebacked.model.values import Json

NOW = 1_750_000_000
KEY_ID = "sbk_nXzdtCxESemgtxS5JX-LrA"
SECRET = b"sbsec_not-a-real-secret-but-long-enough"
OWN = "https://machines.example.com/"
AUDIENCES = frozenset({PUBLISHED_AUDIENCE, OWN})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(
    claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, secret: bytes = SECRET
) -> bytes:
    """A token of the published package; a claim or header of None is left out."""
    payload = {"act": {"sub": "u"}, "aud": PUBLISHED_AUDIENCE, "exp": NOW + 60, "iss": "x", "iat": NOW}
    head = {"alg": "HS256", "kid": KEY_ID}
    payload = {k: v for k, v in {**payload, **(claims or {})}.items() if v is not None}
    head = {k: v for k, v in {**head, **(header or {})}.items() if v is not None}
    signing_input = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(payload).encode())}"
    algorithm = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}.get(str(head.get("alg")), "sha256")
    mac = hmac.digest(secret, signing_input.encode(), algorithm)
    return f"{signing_input}.{b64(mac)}".encode()


def judge(raw: bytes, *, now: float = NOW, secret: bytes = SECRET, grace_ms: int = 0) -> Json:
    keys = {KEY_ID: import_secret(secret)}
    return verify(
        read_token(raw), keys, Instant(int(now * 1000)), audiences=AUDIENCES, grace_ms=grace_ms
    ).auth


def test_a_token_of_the_published_package_gives_its_act_claim() -> None:
    assert judge(token({"act": {"sub": "u", "role": "admin"}})) == b'{"sub":"u","role":"admin"}'


def test_joserfc_and_we_agree_on_the_signature() -> None:
    payload = json.dumps({"aud": PUBLISHED_AUDIENCE, "exp": NOW + 1, "act": {}})
    signed = jws.serialize_compact({"alg": "HS256", "kid": KEY_ID}, payload, OctKey.import_key(SECRET))
    assert judge(signed.encode()) == b"{}"


@pytest.mark.parametrize(
    ("claims", "auth"),
    [
        ({"act": None, "sub": "top"}, b'{"sub":"top"}'),
        ({"act": {"role": "x"}, "sub": "top"}, b'{"sub":"top","role":"x"}'),
        ({"act": {"sub": "inner"}, "sub": "top"}, b'{"sub":"inner"}'),
        ({"act": None}, b"{}"),
    ],
)
def test_the_top_level_sub_fills_a_missing_one(claims: dict[str, Any], auth: bytes) -> None:
    assert judge(token(claims)) == auth


@pytest.mark.parametrize("aud", [PUBLISHED_AUDIENCE, OWN, ["https://other.example/", OWN]])
def test_the_audience_is_the_published_one_or_our_own(aud: object) -> None:
    judge(token({"aud": aud}))


@pytest.mark.parametrize("aud", ["https://api.statebacked.dev", [], ["https://other.example/"], None, 5, {}])
def test_another_audience_is_refused(aud: object) -> None:
    with pytest.raises(MissingUser):
        judge(token({"aud": aud}))


def test_exp_and_nbf_have_thirty_seconds_of_leeway() -> None:
    judge(token({"exp": NOW}), now=NOW + 30)
    with pytest.raises(MissingUser, match="expired"):
        judge(token({"exp": NOW}), now=NOW + 30.001)
    judge(token({"nbf": NOW}), now=NOW - 30)
    with pytest.raises(MissingUser, match="not valid yet"):
        judge(token({"nbf": NOW}), now=NOW - 30.001)


def test_iat_and_iss_are_not_judged() -> None:
    judge(token({"iat": NOW + 10_000, "iss": {"any": "thing"}}))
    judge(token({"iat": None, "iss": None}))


@pytest.mark.parametrize("exp", [None, "soon", True, [NOW]])
def test_exp_is_required_and_a_number(exp: object) -> None:
    with pytest.raises(MissingUser):
        judge(token({"exp": exp}))


@pytest.mark.parametrize("act", [[], "u", 5, True, {"__proto__": {}}, {"a": {"constructor": 1}}])
def test_act_is_an_object_fit_for_an_auth_context(act: object) -> None:
    with pytest.raises(MissingUser):
        judge(token({"act": act}))


def test_an_act_of_null_is_no_object() -> None:
    payload = json.dumps({"aud": PUBLISHED_AUDIENCE, "exp": NOW + 1, "act": None})
    signed = jws.serialize_compact({"alg": "HS256", "kid": KEY_ID}, payload, OctKey.import_key(SECRET))
    with pytest.raises(MissingUser):
        judge(signed.encode())


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS512"},
        {"alg": "none"},
        {"alg": "hs256"},
        {"alg": "RS256"},
        {"alg": None},
        {"kid": None},
        {"kid": "sbk_short"},
        {"kid": 5},
        {"kid": "../../etc/passwd"},
        {"crit": ["exp"]},
        {"jku": "https://evil.example/"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"x5u": "https://evil.example/"},
        {"b64": False, "crit": ["b64"]},
    ],
)
def test_any_other_header_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(MissingUser):
        judge(token(header=header))


def test_an_unsigned_token_is_refused() -> None:
    head, payload, _ = token(header={"alg": "none"}).split(b".")
    with pytest.raises(MissingUser):
        judge(head + b"." + payload + b".")


def test_a_signature_by_another_key_is_refused() -> None:
    with pytest.raises(MissingUser, match="signature"):
        judge(token(secret=b"sbsec_another-secret-that-is-long-too"))


def test_a_changed_claim_breaks_the_signature() -> None:
    head, _, mac = token().split(b".")
    _, other, _ = token({"act": {"sub": "root"}}).split(b".")
    with pytest.raises(MissingUser, match="signature"):
        judge(b".".join((head, other, mac)))


def test_a_key_that_is_not_known_is_refused() -> None:
    with pytest.raises(MissingUser, match="does not exist"):
        verify(read_token(token()), {}, Instant(NOW * 1000), audiences=AUDIENCES)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b"a.b.c",
        b"\xff\xfe.b.c",
        b"e30.e30.e30",
        b"x" * (TOKEN_BYTES_MAX + 1),
        token()[:-1] + b"\xff",
        token() + b".more",
        b64(b"[" * 5000).encode() + b".e30.e30",
    ],
)
def test_what_is_no_token_is_refused(raw: bytes) -> None:
    with pytest.raises(MissingUser):
        judge(raw)


def test_the_size_of_a_token_is_limited() -> None:
    with pytest.raises(MissingUser, match="too long"):
        judge(token({"act": {"a": "x" * TOKEN_BYTES_MAX}}))


def test_grace_extends_the_end_and_nothing_else() -> None:
    day_ms = 24 * 3600 * 1000
    judge(token({"exp": NOW}), now=NOW + 24 * 3600, grace_ms=day_ms)
    with pytest.raises(MissingUser):
        judge(token({"exp": NOW}), now=NOW + 24 * 3600 + 1, grace_ms=day_ms)
    with pytest.raises(MissingUser):
        judge(token({"exp": NOW, "aud": "x"}), now=NOW, grace_ms=day_ms)
