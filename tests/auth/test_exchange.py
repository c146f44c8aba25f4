"""The anonymous exchange: what is asked, what is given, and that the published client can read it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws

from statebacked.auth.exchange import (
    ACCESS_TOKEN_TYPE,
    ANONYMOUS_SERVICE,
    GRANT_TYPE,
    AnonymousSession,
    ExchangeRefused,
    mint_anonymous,
    minting_secret,
    read_anonymous,
    read_request,
)
from statebacked.auth.jwt import PUBLISHED_AUDIENCE, import_secret, read_token, verify
from statebacked.model.ids import Instant, OrgId
from statebacked.model.limits import MINTED_TOKEN_BYTES_MAX
from tests.api.doubles import keyring

ORG = OrgId("org_uHvZHpF4STWvMg8BKVCUTg")
PROVIDER = f"https://{ORG}.anonymous.auth.statebacked.dev"
NOW = Instant(1_750_000_000_000)


def subject(key: str = ORG, header: dict[str, Any] | None = None, **claims: Any) -> str:
    payload = {"aud": PROVIDER, "iss": PROVIDER, "iat": 1, "exp": 2, "sid": "s", "did": "d", **claims}
    kept = {name: value for name, value in payload.items() if value is not None}
    head = {"alg": "HS256", "typ": "JWT", **(header or {})}
    return jws.serialize_compact(
        head, json.dumps(kept), import_secret(key.encode()), algorithms=[head["alg"]]
    )


def form(**fields: Any) -> dict[str, str]:
    all_fields = {
        "grant_type": GRANT_TYPE,
        "audience": f"https://tokens.statebacked.dev/{ORG}/{ANONYMOUS_SERVICE}",
        "requested_token_type": ACCESS_TOKEN_TYPE,
        "subject_token": subject(),
        **fields,
    }
    return {name: value for name, value in all_fields.items() if value is not None}


def session_of(**fields: Any) -> AnonymousSession:
    return read_anonymous(read_request(form(**fields)))


def auth_of(token: str) -> object:
    secret = import_secret(minting_secret(keyring(), ORG))
    audiences = frozenset({PUBLISHED_AUDIENCE})
    verified = verify(read_token(token.encode()), {ORG: secret}, NOW, audiences=audiences)
    return msgspec.json.decode(verified.auth)


def test_a_session_is_given_exactly_its_sid_and_did() -> None:
    token = mint_anonymous(keyring(), ORG, session_of(), NOW)
    assert auth_of(token) == {"sid": "s", "did": "d", "auth": "anonymous"}


def test_a_missing_did_is_the_sid() -> None:
    assert session_of(subject_token=subject(did=None)) == AnonymousSession("s", "s")


def test_requested_token_type_is_optional() -> None:
    assert session_of(requested_token_type=None) == AnonymousSession("s", "d")


def test_the_subjects_times_and_further_claims_are_ignored() -> None:
    assert session_of(subject_token=subject(exp=0, nbf=9e12, sub="root", auth="admin")) == AnonymousSession(
        "s", "d"
    )


@pytest.mark.parametrize("sid", ["", "x" * 129, "😀" * 65, None, 5, ["s"]])
def test_a_sid_is_a_string_of_1_to_128_characters(sid: object) -> None:
    with pytest.raises(ExchangeRefused) as refused:
        session_of(subject_token=subject(sid=sid))
    assert refused.value.error == "invalid_request"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        subject(key="org_AAAAAAAAAAAAAAAAAAAAAA"),
        subject(aud="https://other.example"),
        subject(iss="https://other.example"),
        subject(aud=[PROVIDER]),
        subject(header={"alg": "HS512"}),
        "x" * 9000,
    ],
)
def test_anything_about_the_subject_token_is_an_invalid_request(token: str) -> None:
    with pytest.raises(ExchangeRefused) as refused:
        session_of(subject_token=token)
    assert refused.value.error == "invalid_request"


@pytest.mark.parametrize(
    "audience",
    [
        None,
        "",
        f"https://tokens.statebacked.dev/{ORG}",
        f"https://tokens.statebacked.dev/{ORG}/another-service",
        f"https://tokens.statebacked.dev/{ORG}/{ANONYMOUS_SERVICE}/x",
        f"https://evil.example/{ORG}/{ANONYMOUS_SERVICE}",
        f"https://tokens.statebacked.dev/org-YOUR_ORG_ID/{ANONYMOUS_SERVICE}",
    ],
)
def test_an_unknown_service_is_an_invalid_target(audience: str | None) -> None:
    with pytest.raises(ExchangeRefused) as refused:
        read_request(form(audience=audience))
    assert refused.value.error == "invalid_target"


def test_another_grant_type_is_unsupported() -> None:
    with pytest.raises(ExchangeRefused) as refused:
        read_request(form(grant_type="password"))
    assert refused.value.error == "unsupported_grant_type"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    st.text(st.sampled_from(">?~\x7f<é😀a"), min_size=1, max_size=64),
)
def test_the_published_client_can_read_any_token_we_mint(sid: str, did: str) -> None:
    token = mint_anonymous(keyring(), ORG, AnonymousSession(sid, did), NOW)
    payload = token.split(".")[1]
    assert "-" not in payload
    assert "_" not in payload
    assert auth_of(token) == {"sid": sid, "did": did, "auth": "anonymous"}
    assert len(token) <= MINTED_TOKEN_BYTES_MAX


def test_the_longest_ids_fit_into_a_token() -> None:
    longest = "😀" * 64
    session = session_of(subject_token=subject(sid=longest, did="\x7f" * 128))
    assert len(mint_anonymous(keyring(), ORG, session, NOW)) <= MINTED_TOKEN_BYTES_MAX
