"""What counts as a JWT, and which key may have signed it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from stockade.identity.jose import (
    ALGORITHMS,
    InvalidTokenError,
    import_public_keys,
    numeric_date,
    parse,
    sign,
    verify,
)

KEY = ECKey.generate_key("P-256", {"kid": "a"})


def encode(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(**header: Any) -> str:
    return sign({"alg": "ES256", "kid": "a", **header}, {"x": 1}, KEY)


def test_what_is_signed_verifies() -> None:
    parsed = parse(token())
    verify(parsed, [KEY], ["ES256"])
    assert parsed.claims == {"x": 1}


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except InvalidTokenError:
        return


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "zip"]), st.none() | st.text() | st.integers()
    )
)
def test_any_header_is_verified_or_refused(header: dict[str, Any]) -> None:
    try:
        verify(parse(f"{encode(header)}.{encode({})}.AAAA"), [KEY], ALGORITHMS)
    except InvalidTokenError:
        return
    raise AssertionError("a made-up signature verified")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "....",
        f"{encode([])}.{encode({})}.AA",
        f"{encode({'alg': 'ES256'})}.{encode([])}.AA",
        f"{encode({'alg': 'ES256'})}=.{encode({})}.AA",
        f" {encode({'alg': 'ES256'})}.{encode({})}.AA",
        f"{encode({})}.{encode({})}.AA",
        f"{encode({'alg': 'ES256', 'crit': []})}.{encode({})}.AA",
        "eyJhbGciOiJFUzI1NiIsImFsZyI6Im5vbmUifQ.e30.AA",
        "eyJhbGciOk5hTn0.e30.AA",
        "A" * 20_000,
    ],
)
def test_malformed_tokens_are_refused(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        parse(text)


def test_deep_json_is_refused() -> None:
    deep = urlsafe_b64encode(b'{"a":' + b"[" * 5_000).rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError):
        parse(f"{encode({'alg': 'ES256'})}.{deep}.AA")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "ES512", "ES256K", "RS512", "dir", "Ed448", ""])
def test_algorithms_that_do_not_exist_here_are_refused_even_when_asked_for(algorithm: str) -> None:
    parsed = parse(f"{encode({'alg': algorithm})}.{encode({})}.AAAA")
    with pytest.raises(InvalidTokenError):
        verify(parsed, [KEY], [algorithm])


def test_an_algorithm_outside_the_callers_list_is_refused() -> None:
    with pytest.raises(InvalidTokenError):
        verify(parse(token()), [KEY], ["RS256"])


def test_a_key_bound_to_another_algorithm_does_not_fit() -> None:
    rsa = RSAKey.generate_key(2048, {"kid": "r"})
    text = sign({"alg": "RS256", "kid": "r"}, {}, rsa)
    bound = import_public_keys({"keys": [rsa.as_dict(private=False, alg="PS256")]})
    verify(parse(text), import_public_keys({"keys": [rsa.as_dict(private=False)]}), ["RS256", "PS256"])
    with pytest.raises(InvalidTokenError):
        verify(parse(text), bound, ["RS256", "PS256"])


def test_a_refusal_computes_one_signature_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time of the answer would tell which keys are registered."""
    from stockade.identity import jose

    calls: list[object] = []
    real = jose.deserialize_compact
    monkeypatch.setattr(jose, "deserialize_compact", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    other = ECKey.generate_key("P-256", {"kid": "a"})
    for keys in ([], [KEY, other], [other], [OKPKey.generate_key("Ed25519")], [RSAKey.generate_key(2048)]):
        calls.clear()
        with pytest.raises(InvalidTokenError):
            verify(parse(token()), keys, ["ES256"])
        assert len(calls) == 1
    for algorithm in ALGORITHMS:
        calls.clear()
        with pytest.raises(InvalidTokenError):
            verify(parse(f"{encode({'alg': algorithm})}.{encode({})}.AAAA"), [], ALGORITHMS)
        assert len(calls) == 1


def test_unusable_keys_of_a_set_are_passed_over() -> None:
    usable = KEY.as_dict(private=False)
    entries: list[Any] = [
        usable,
        {**usable, "kid": "b", "use": "enc"},
        {**usable, "kid": "c", "key_ops": ["sign"]},
        {**usable, "kid": "d", "alg": "HS256"},
        {**usable, "kid": "e", "x": "AAAA"},
        {**usable, "kid": 5},
        {"kty": "oct", "k": "AAAA"},
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "new"},
        "text",
        None,
    ]
    assert [key.kid for key in import_public_keys({"keys": entries})] == ["a"]


@pytest.mark.parametrize("jwks", [{}, {"keys": {}}, {"keys": [{}] * 100}, {"keys": [KEY.as_dict(private=False)] * 2}])
def test_unreasonable_key_sets_are_refused(jwks: dict[str, Any]) -> None:
    with pytest.raises(InvalidTokenError):
        import_public_keys(jwks)


@pytest.mark.parametrize("value", [None, True, "1", [], float("nan"), float("inf"), 10**400])
def test_only_finite_numbers_are_dates(value: Any) -> None:
    assert numeric_date(value) is None


def test_numbers_are_dates() -> None:
    assert (numeric_date(5), numeric_date(5.5)) == (5.0, 5.5)
