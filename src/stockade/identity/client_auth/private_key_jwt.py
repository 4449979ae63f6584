"""`private_key_jwt` (RFC 7523 §2.2 and §3, OpenID Connect Core §9): a JWT signed with the client's registered key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from stockade.identity import profile
from stockade.identity.errors import invalid_client, invalid_request
from stockade.identity.jose import InvalidTokenError, Unverified, import_public_keys, numeric_date, parse, verify
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockade.identity.config import Config
    from stockade.identity.endpoints.form import Form
    from stockade.identity.storage.clients import ClientRecord

ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "PS256", "RS256")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# What clients choose who do not choose: Authlib's assertions hold for an hour. Each is good once all the same (`jti`).
MAX_LIFETIME_SECONDS = 3_600
FAPI2_LIFETIME_SECONDS = 300
LEEWAY_SECONDS = 10
_MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """An assertion whose claims are in order; the signature is not checked yet."""

    client_id: str
    jti: str
    exp: int
    read_at: float
    _token: Unverified = field(repr=False)
    _config: Config = field(repr=False)
    method = AuthMethod.PRIVATE_KEY_JWT

    @staticmethod
    def read(form: Form, config: Config, now: float) -> ClientAssertion:
        """Take an assertion from the form and check its claims. Raises `invalid_request` or `invalid_client`.

        RFC 7523 §3: `iss` and `sub` are the client, `aud` is this server alone, `exp` is near, `jti` is there.
        """
        if form.optional("client_assertion_type") != ASSERTION_TYPE:
            raise invalid_request("`client_assertion_type` is missing or not supported")
        try:
            token = parse(form.required("client_assertion"))
        except InvalidTokenError:
            raise invalid_client() from None
        claims = token.claims
        client_id, jti, exp = claims.get("sub"), claims.get("jti"), numeric_date(claims.get("exp"))
        if (
            not _is_identifier(client_id)
            or not _is_identifier(jti)
            or exp is None
            or claims.get("iss") != client_id
            or token.typ not in (None, "JWT", "client-authentication+jwt")
            or not _is_for_us(claims.get("aud"), config)
            or not _is_timely(claims, exp, now)
        ):
            raise invalid_client()
        return ClientAssertion(client_id, jti, int(exp) + 1, now, token, config)

    def proves(self, client: ClientRecord | None) -> bool:
        """Check the signature with the registered keys; the same work without a client."""
        registered = client.jwks if client is not None and client.auth_method is self.method else None
        fapi2 = profile.is_fapi2(self._config, client)
        algorithms = [name for name in ALGORITHMS if not fapi2 or name in profile.FAPI2_ALGORITHMS]
        try:
            verify(self._token, import_public_keys(registered or {"keys": []}, algorithms), algorithms)
        except InvalidTokenError:
            return False
        return not fapi2 or self._keeps_fapi2()

    def _keeps_fapi2(self) -> bool:
        """FAPI 2.0 §5.3.2.1: the issuer, as a string; a list, or an endpoint's URL, can mean another server."""
        short = self.exp <= self.read_at + FAPI2_LIFETIME_SECONDS + LEEWAY_SECONDS + 1
        return short and bool(self._token.claims["aud"] == self._config.issuer)


def _is_identifier(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS and "\x00" not in value


def _is_for_us(aud: Any, config: Config) -> bool:
    """One audience: an assertion that is good elsewhere too could have been taken from there."""
    if isinstance(aud, list):
        return len(aud) == 1 and _is_for_us(aud[0], config)
    return isinstance(aud, str) and aud in (config.issuer, config.token_endpoint)


def _is_timely(claims: Mapping[str, Any], exp: float, now: float) -> bool:
    if not now < exp <= now + MAX_LIFETIME_SECONDS + LEEWAY_SECONDS:
        return False
    for name in ("iat", "nbf"):
        moment = numeric_date(claims.get(name, 0))
        if moment is None or moment > now + LEEWAY_SECONDS:
            return False
    return True
