"""`authorization_code` (RFC 6749 §4.1.3): a code for tokens, once."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from stockade.identity.audit import AuditEvent, record
from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage.codes import find_code, use_code
from stockade.identity.storage.grants import revoke_grant
from stockade.identity.storage.refresh_tokens import insert_refresh_token
from stockade.identity.storage.tokens import insert_access_token
from stockade.identity.tokens.access import Authorized, answer, make_access_token
from stockade.identity.tokens.id_token import make_id_token
from stockade.identity.tokens.refresh import make_refresh_token

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.storage.codes import CodeRow, FoundCode
    from stockade.identity.tokens.access import IssuedTokens

# RFC 7636 §4.1
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


async def authorization_code(services: Services, request: TokenRequest) -> IssuedTokens:
    """Issue tokens for a code. Raises `invalid_grant`, with one text for every cause.

    RFC 6749 §4.1.2: a code that comes a second time revokes all that the first one gave. Everything happens in one
    write transaction, so of two redemptions that race one is the first.
    """
    text = request.form.required("code")
    verifier = read_verifier(request)
    if kind_of(text) is not Kind.AUTHORIZATION_CODE:
        raise _refused()
    now = services.clock()

    def work(connection: Connection) -> IssuedTokens | OAuthError:
        found = find_code(connection, digest(text), now)
        if found is None or found.code.client_id != request.client.client_id:
            return _refused()
        if found.used:
            _revoke_replayed(connection, request, found.code, now)
            return _refused()
        if not found.alive or not _matches(request, verifier, found.code):
            return _refused()
        if request.form.optional("resource") not in (None, found.code.audience):
            # RFC 8707 §2.2
            return OAuthError("invalid_target", "the code was given for another resource")
        use_code(connection, found.code.digest, now)
        return _issue(services, request, found, connection, int(now))

    outcome = await services.lanes.write(work)
    if isinstance(outcome, OAuthError):
        services.feed.announce()
        log("warning", "code_refused", client_id=request.client.client_id, address=request.address)
        raise outcome
    return outcome


def read_verifier(request: TokenRequest) -> str:
    """RFC 9700 §2.1.1, RFC 7636 §4.5: every code has a challenge, so every redemption needs its verifier."""
    verifier = request.form.required("code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise invalid_request("`code_verifier` must be 43 to 128 unreserved characters")
    return verifier


def challenge_of(verifier: str) -> str:
    """RFC 7636 §4.2, `S256`: the only method there is."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _matches(request: TokenRequest, verifier: str, code: CodeRow) -> bool:
    """RFC 7636 §4.6; RFC 6749 §4.1.3: the same `redirect_uri` where it is sent; RFC 9449 §10: the key of `dpop_jkt`."""
    key = request.binding.thumbprint if request.binding and request.binding.kind == "jkt" else None
    return (
        hmac.compare_digest(challenge_of(verifier), code.code_challenge)
        and request.form.optional("redirect_uri") in (None, code.redirect_uri)
        and code.dpop_jkt in (None, key)
    )


def _issue(
    services: Services, request: TokenRequest, found: FoundCode, connection: Connection, now: int
) -> IssuedTokens:
    """Store an access token, and a refresh token where the client is registered for it."""
    code, client, binding = found.code, request.client, request.binding
    authorized = Authorized(
        client, code.scopes, code.audience, found.authorization, binding, expires_at=found.grant_expires_at
    )
    made = make_access_token(services, authorized, now)
    insert_access_token(connection, made.row)
    refresh_token = id_token = None
    if "refresh_token" in client.metadata.grant_types:
        refresh = make_refresh_token(
            services.config,
            client,
            found.authorization,
            code.scopes,
            code.audience,
            binding,
            found.grant_expires_at,
            now,
        )
        insert_refresh_token(connection, refresh.row)
        refresh_token = refresh.refresh_token
    if "openid" in code.scopes:
        id_token = make_id_token(
            services,
            client.client_id,
            found.authorization,
            made.access_token,
            now,
            nonce=code.nonce,
            session_id=code.session_id,
        )
    return answer(made, refresh_token=refresh_token, id_token=id_token)


def _revoke_replayed(connection: Connection, request: TokenRequest, code: CodeRow, now: float) -> None:
    """RFC 9700 §4.5: somebody else has, or had, this code."""
    event = AuditEvent(
        "code.replayed",
        user_id=code.user_id,
        client_id=code.client_id,
        session_id=code.session_id,
        address=request.address,
        detail={"grant_id": code.grant_id},
    )
    if revoke_grant(connection, code.grant_id, now) is not None:
        record(connection, event, now)


def _refused() -> OAuthError:
    return OAuthError("invalid_grant", "the code is unknown, expired, used, or was given for another request")
