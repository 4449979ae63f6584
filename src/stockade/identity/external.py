"""An external issuer: its metadata, its keys, and what makes one of its JWT access tokens believable.

Discovery is RFC 8414 §3 and OpenID Connect Discovery §4: the `issuer` in the document must be exactly the configured
one, and every URL https. Keys are fetched when they are old or a token names one that is not there (at most once in
REFRESH_SECONDS, one fetch at a time). A failed fetch lets old keys go on for STALE_SECONDS and no longer.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from stockade.identity.binding import Binding
from stockade.identity.errors import IssuerUnavailable
from stockade.identity.jose import InvalidTokenError, import_public_keys, numeric_date, parse, verify
from stockade.identity.observability import log
from stockade.identity.storage.tokens import Authorization
from stockade.identity.tokens.verified import VerifiedCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from joserfc.jwk import Key

    from stockade.identity.config import ExternalIssuer
    from stockade.identity.jose import Unverified
    from stockade.identity.observability import Metrics

REFRESH_SECONDS = 5.0
STALE_SECONDS = 3_600.0
FETCH_TIMEOUT_SECONDS = 1.5
MAX_DOCUMENT_BYTES = 262_144
# Base64url of 32 bytes, in its one spelling.
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_TYPES = ("at+jwt", "application/at+jwt", "jwt")


class Fetch(Protocol):
    """Gets a JSON document. Raises IssuerUnavailable."""

    async def __call__(self, url: str) -> Mapping[str, Any]:
        """Fetch `url`."""


class ExternalTokens:
    """Judges tokens of one external issuer."""

    def __init__(
        self, config: ExternalIssuer, fetch: Fetch, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._clock = clock
        self._keys = IssuerKeys(config, fetch, metrics)

    async def verify(self, text: str, resource: str) -> VerifiedCredential | None:
        """Who the token speaks for, or None. Raises IssuerUnavailable when there are no keys to tell by.

        RFC 9068 §4, RFC 8725: signature by a published key with an allowed algorithm, `typ`, exact `iss`, `aud`, times.
        """
        if resource != self._config.audience:
            return None
        try:
            token = parse(text)
            _check_claims(token, self._config, self._clock())
            keys = await self._keys.keys_for(token)
            verify(token, keys, self._config.algorithms)
            return _credential(token, self._config)
        except InvalidTokenError as error:
            log("debug", "external_token_refused", reason=str(error))
            return None

    async def prepare(self) -> None:
        """Fetch the keys ahead of the first token; a failure is logged and tried again when one comes."""
        try:
            await self._keys.refresh()
        except IssuerUnavailable as error:
            log("error", "external_issuer_unreachable", reason=error.reason)


@dataclass(slots=True)
class _KeySet:
    keys: list[Key]
    fetched_at: float


class IssuerKeys:
    """The issuer's published keys, kept fresh."""

    def __init__(self, config: ExternalIssuer, fetch: Fetch, metrics: Metrics) -> None:
        self._config = config
        self._fetch = fetch
        self._metrics = metrics
        self._known: _KeySet | None = None
        self._tried_at = -REFRESH_SECONDS
        self._failure: str | None = None
        self._one_at_a_time = asyncio.Lock()

    async def keys_for(self, token: Unverified) -> list[Key]:
        """The keys among which the token's must be. Raises IssuerUnavailable."""
        known = self._known
        if known is None or time.monotonic() - known.fetched_at > self._config.keys_max_age_seconds:
            return await self._renewed()
        if token.kid is not None and all(key.kid != token.kid for key in known.keys):
            return await self._renewed(tell_failure=True)
        return known.keys

    async def refresh(self) -> None:
        """Fetch the keys now, unless someone just did. Raises IssuerUnavailable."""
        before = self._tried_at
        async with self._one_at_a_time:
            if self._tried_at == before and time.monotonic() - before >= REFRESH_SECONDS:
                await self._load()
        if self._failure is not None:
            raise IssuerUnavailable(self._failure)

    async def _renewed(self, *, tell_failure: bool = False) -> list[Key]:
        """Fresh keys if they can be had; else the old ones for a while.

        With `tell_failure` the old ones are known not to do, so whether the token is good cannot be told.
        """
        try:
            await self.refresh()
        except IssuerUnavailable:
            if tell_failure or self._known is None or time.monotonic() - self._known.fetched_at > STALE_SECONDS:
                raise
        if self._known is None:
            raise IssuerUnavailable("the issuer's keys were never fetched")
        return self._known.keys

    async def _load(self) -> None:
        self._tried_at = time.monotonic()
        try:
            jwks_uri = self._config.jwks_uri or await self._discover()
            keys = _usable(import_public_keys(await self._fetch(jwks_uri), self._config.algorithms))
        except (IssuerUnavailable, InvalidTokenError) as error:
            self._failure = str(error)
            self._metrics.count("external_key_refreshes", result="failed")
            log("error", "external_keys_not_refreshed", issuer=self._config.issuer, reason=self._failure)
            return
        self._failure = None
        self._known = _KeySet(keys, self._tried_at)
        self._metrics.count("external_key_refreshes", result="ok")

    async def _discover(self) -> str:
        document = await self._read_metadata()
        if document.get("issuer") != self._config.issuer:
            raise IssuerUnavailable("the issuer in the metadata is not the configured one")
        jwks_uri = document.get("jwks_uri")
        if not isinstance(jwks_uri, str) or urlsplit(jwks_uri).scheme != "https":
            raise IssuerUnavailable("the metadata has no https `jwks_uri`")
        return jwks_uri

    async def _read_metadata(self) -> Mapping[str, Any]:
        first, second = metadata_urls(self._config.issuer)
        try:
            return await self._fetch(first)
        except IssuerUnavailable:
            return await self._fetch(second)


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where metadata may be: OpenID appends its well-known path, RFC 8414 §3.1 puts its own before the path."""
    parts = urlsplit(issuer)
    return (
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path.rstrip('/')}",
    )


def https_fetch(config: ExternalIssuer) -> Fetch:
    """A Fetch over https with the configured CA: no redirects, no proxies from outside, bounded size and time."""
    import httpx  # noqa: PLC0415 - only installations with an external issuer pay for it

    context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)

    async def fetch(url: str) -> Mapping[str, Any]:
        try:
            async with (
                asyncio.timeout(FETCH_TIMEOUT_SECONDS),
                httpx.AsyncClient(verify=context, trust_env=False, timeout=FETCH_TIMEOUT_SECONDS) as client,
                client.stream("GET", url, headers={"Accept": "application/json"}) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise IssuerUnavailable(f"the issuer answered {response.status_code}")
                return _json_object(await _read_bounded(response))
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise IssuerUnavailable(f"the issuer cannot be reached: {type(error).__name__}") from error

    return fetch


async def _read_bounded(response: Any) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise IssuerUnavailable("the issuer's document is too large")
    return bytes(body)


def _usable(keys: list[Key]) -> list[Key]:
    if not keys:
        raise IssuerUnavailable("the issuer publishes no usable key")
    return keys


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise IssuerUnavailable("the issuer's document is not JSON") from error
    if not isinstance(document, dict):
        raise IssuerUnavailable("the issuer's document is not a JSON object")
    return document


def _check_claims(token: Unverified, config: ExternalIssuer, now: float) -> None:
    """Everything but the signature; cheap, and so done before a key is looked for."""
    claims = token.claims
    if (token.typ or "").lower() not in _TYPES:
        raise InvalidTokenError("not typed as an access token")
    if claims.get("iss") != config.issuer:
        raise InvalidTokenError("another issuer")
    aud = claims.get("aud")
    if config.audience not in (aud if isinstance(aud, list) else [aud]):
        raise InvalidTokenError("another audience")
    exp = numeric_date(claims.get("exp"))
    # No leeway here: the internal token ends with this one and would be born dead.
    if exp is None or exp <= now:
        raise InvalidTokenError("expired, or without expiry")
    for name in ("nbf", "iat"):
        moment = numeric_date(claims.get(name, 0))
        if moment is None or moment - config.leeway_seconds > now:
            raise InvalidTokenError(f"`{name}` in the future or not a number")


def _credential(token: Unverified, config: ExternalIssuer) -> VerifiedCredential:
    claims = token.claims
    subject = _text(claims, "sub")
    client_id = _text(claims, "client_id") or _text(claims, "azp") or subject
    if subject is None or client_id is None:
        raise InvalidTokenError("no subject")
    iat, exp = numeric_date(claims.get("iat")), numeric_date(claims.get("exp"))
    binding = _binding(claims)
    return VerifiedCredential(
        client_id=client_id,
        sub=subject,
        scopes=_scopes(claims),
        iss=config.issuer,
        aud=config.audience,
        iat=None if iat is None else int(iat),
        exp=None if exp is None else int(exp),
        jti=_text(claims, "jti") or sha256(token.text.encode()).hexdigest()[:32],
        token_type=binding.token_type if binding else "Bearer",
        binding=binding,
        authorization=_authorization(claims),
    )


def _binding(claims: Mapping[str, Any]) -> Binding | None:
    """RFC 7800 §3.1. A token that is bound in a way that no gate can check is not taken for a bearer's."""
    cnf = claims.get("cnf")
    if cnf is None:
        return None
    if isinstance(cnf, dict) and len(cnf) == 1:
        kind, thumbprint = next(iter(cnf.items()))
        if kind in ("jkt", "x5t#S256") and isinstance(thumbprint, str) and _THUMBPRINT.fullmatch(thumbprint):
            return Binding(kind, thumbprint)
    raise InvalidTokenError("bound in a way that cannot be checked")


def _authorization(claims: Mapping[str, Any]) -> Authorization:
    """RFC 9068 §2.2.1, RFC 9470 §6.1."""
    auth_time = numeric_date(claims.get("auth_time"))
    known = auth_time is not None and auth_time >= 0
    return Authorization(auth_time=int(auth_time or 0) if known else None, acr=_text(claims, "acr"))


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidTokenError(f"`{name}` is not text")
    return value


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """`scope` as RFC 9068 §2.2.3 has it, or `scp` as some issuers write it: one text or a list."""
    value = claims.get("scope", claims.get("scp", ""))
    parts = value.split(" ") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) and " " not in part for part in parts):
        raise InvalidTokenError("scope of the wrong type")
    return tuple(part for part in parts if part)
