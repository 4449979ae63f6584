"""`refresh_token` (RFC 6749 §6): new tokens for an old one, which a new one replaces.

RFC 9700 §4.14.2: a refresh token that was replaced and comes again is in two hands, so the whole grant is revoked. Two
tabs, or an answer that was lost, look the same for a moment: within the grace the same successor is given again. It is
kept under a key that only the old token gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity import profile
from stockade.identity.audit import AuditEvent, record
from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.errors import OAuthError
from stockade.identity.observability import log
from stockade.identity.scopes import allowed_scopes
from stockade.identity.storage.grants import revoke_grant
from stockade.identity.storage.refresh_tokens import (
    extend_refresh_token,
    find_refresh_token,
    insert_refresh_token,
    replace_refresh_token,
)
from stockade.identity.storage.tokens import insert_access_token
from stockade.identity.tokens.access import Authorized, answer, make_access_token
from stockade.identity.tokens.id_token import make_id_token
from stockade.identity.tokens.refresh import expiry, make_successor, open_successor, seal_successor

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.binding import Binding
    from stockade.identity.config import Config
    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.storage.refresh_tokens import FoundRefreshToken, RefreshRow
    from stockade.identity.tokens.access import IssuedTokens


@dataclass(frozen=True, slots=True)
class _Presented:
    """A request with its token, at one moment."""

    services: Services
    request: TokenRequest
    text: str
    now: float


async def refresh_token(services: Services, request: TokenRequest) -> IssuedTokens:
    """Issue tokens for a refresh token. Raises `invalid_grant`, `invalid_scope` or `invalid_target`.

    Everything happens in one write transaction: of two requests that race, one replaces the token and the other finds
    it replaced.
    """
    text = request.form.required("refresh_token")
    if kind_of(text) is not Kind.REFRESH_TOKEN:
        raise _refused()
    presented = _Presented(services, request, text, services.clock())
    outcome = await services.lanes.write(lambda connection: _redeem(connection, presented))
    if isinstance(outcome, _Refusal):
        if outcome.reuse:
            services.feed.announce()
            services.metrics.count("refresh_token_reuse")
        log("warning", "refresh_refused", reuse=outcome.reuse, client_id=request.client.client_id)
        raise outcome.error
    return outcome


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Returned, not raised: what it revokes must be committed. The caller is not told of `reuse`."""

    error: OAuthError
    reuse: bool = False


def _refused() -> OAuthError:
    return OAuthError("invalid_grant", "the refresh token is unknown, expired, used or revoked, or not this client's")


def _redeem(connection: Connection, presented: _Presented) -> IssuedTokens | _Refusal:
    found = find_refresh_token(connection, digest(presented.text), presented.now)
    request = presented.request
    if found is None or not found.alive or found.token.client_id != request.client.client_id:
        return _Refusal(_refused())
    if not holds_the_key(request.client, found.token.binding, request.binding):
        return _Refusal(_refused())
    if _is_reuse(presented, found):
        _revoke_family(connection, presented, found.token)
        return _Refusal(_refused(), reuse=True)
    try:
        scopes = _scopes(presented, found.token)
    except OAuthError as error:
        return _Refusal(error)
    refreshed = _replace(connection, presented, found)
    return _issue(connection, presented, found, scopes, refreshed)


def holds_the_key(client: ClientRecord, bound: Binding | None, proved: Binding | None) -> bool:
    """Whether a request proves what its refresh token is bound to.

    RFC 9449 §5: a public client's token holds for that key alone. A confidential client's is bound by its
    authentication, so its key may change (RFC 8705 §7.1), but no bound token becomes a bearer token.
    """
    if bound is None:
        return True
    if proved is None or proved.kind != bound.kind:
        return False
    return client.confidential or proved == bound


def rotates(config: Config, client: ClientRecord, bound: Binding | None) -> bool:
    """RFC 9700 §4.14.2: a public client's refresh token is bound to a key or replaced, whatever is configured."""
    return profile.rotates_refresh_tokens(config, client) or (not client.confidential and bound is None)


def _is_reuse(presented: _Presented, found: FoundRefreshToken) -> bool:
    if found.used_at is None:
        return False
    grace = presented.services.config.refresh.grace_seconds
    return found.successor is None or not presented.now < found.used_at + grace


def _revoke_family(connection: Connection, presented: _Presented, token: RefreshRow) -> None:
    event = AuditEvent(
        "token.reuse_detected",
        user_id=token.user_id,
        client_id=token.client_id,
        session_id=token.session_id,
        address=presented.request.address,
        detail={"grant_id": token.grant_id},
    )
    if revoke_grant(connection, token.grant_id, presented.now) is not None:
        record(connection, event, presented.now)


def _scopes(presented: _Presented, token: RefreshRow) -> tuple[str, ...]:
    """RFC 6749 §6: at most what was granted; the refresh token keeps its own. What the client lost since is out."""
    form, client = presented.request.form, presented.request.client
    if form.optional("resource") not in (None, token.audience):
        # RFC 8707 §2.2
        raise OAuthError("invalid_target", "the grant is for another resource")
    allowed = set(allowed_scopes(presented.services.config, client))
    granted = tuple(scope for scope in token.scopes if scope in allowed)
    requested = form.optional("scope")
    if requested is None:
        return granted
    scopes = tuple(dict.fromkeys(requested.split(" ")))
    if not set(scopes) <= set(granted):
        raise OAuthError("invalid_scope", "a requested scope is malformed, or more than was granted")
    return scopes


def _replace(connection: Connection, presented: _Presented, found: FoundRefreshToken) -> str:
    """The refresh token of the answer: the successor that was given before, a new one, or the same."""
    config, client, token = presented.services.config, presented.request.client, found.token
    if found.successor is not None:
        return open_successor(presented.text, found.successor)
    if not rotates(config, client, token.binding):
        extend_refresh_token(connection, token.digest, expiry(config, found.grant_expires_at, int(presented.now)))
        return presented.text
    made = make_successor(config, token, found.grant_expires_at, int(presented.now))
    insert_refresh_token(connection, made.row)
    sealed = seal_successor(presented.text, made.refresh_token)
    replace_refresh_token(connection, token.digest, sealed, presented.now)
    return made.refresh_token


def _issue(
    connection: Connection,
    presented: _Presented,
    found: FoundRefreshToken,
    scopes: tuple[str, ...],
    refreshed: str,
) -> IssuedTokens:
    services, request, token, now = presented.services, presented.request, found.token, int(presented.now)
    authorized = Authorized(
        request.client, scopes, token.audience, token.authorization, request.binding, found.grant_expires_at
    )
    made = make_access_token(services, authorized, now)
    insert_access_token(connection, made.row)
    id_token = None
    if "openid" in scopes:
        # OIDC Core §12.2: the sign-in is the old one, and there is no `nonce`.
        id_token = make_id_token(
            services,
            request.client.client_id,
            token.authorization,
            made.access_token,
            now,
            session_id=token.session_id,
        )
    return answer(made, refresh_token=refreshed, id_token=id_token)
