"""The device grant (RFC 8628 §3.4, §3.5): a device asks until a person has decided elsewhere."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.errors import OAuthError
from stockade.identity.storage import device_codes as table
from stockade.identity.storage.grants import GrantRow, insert_grant
from stockade.identity.storage.refresh_tokens import insert_refresh_token
from stockade.identity.storage.tokens import Authorization, insert_access_token
from stockade.identity.tokens.access import Authorized, answer, make_access_token
from stockade.identity.tokens.id_token import make_id_token
from stockade.identity.tokens.refresh import make_refresh_token

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.storage.device_codes import DeviceCodeRow
    from stockade.identity.tokens.access import IssuedTokens

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 §3.5: how much longer a device must wait from then on, each time that it asks too soon.
SLOW_DOWN_SECONDS = 5
# The way through the network is not always equally long.
_JITTER_SECONDS = 0.5


async def device_code(services: Services, request: TokenRequest) -> IssuedTokens:
    """Issue tokens for a device code that a person approved: once.

    Raises OAuthError: `authorization_pending`, `slow_down`, `access_denied`, `expired_token` (RFC 8628 §3.5), and
    `invalid_grant` with one text for everything else. All in one write transaction, so of two redemptions that race
    one gets the tokens.
    """
    text = request.form.required("device_code")
    if kind_of(text) is not Kind.DEVICE_CODE:
        raise _refused()
    now = services.clock()

    def work(connection: Connection) -> IssuedTokens | OAuthError:
        found = table.find_device_code(connection, digest(text), now)
        if found is None or found.request.client_id != request.client.client_id or not _holds_key(request, found):
            return _refused()
        refusal = _refusal(connection, found, now)
        return refusal if refusal is not None else _issue(services, request, found, connection, int(now))

    # A refusal is a result and no exception: what it noted must be kept.
    outcome = await services.lanes.write(work)
    if isinstance(outcome, OAuthError):
        raise outcome
    return outcome


def _holds_key(request: TokenRequest, found: DeviceCodeRow) -> bool:
    """A code that was asked for with a DPoP proof is good with that key only."""
    jkt = found.request.dpop_jkt
    return jkt is None or (
        request.binding is not None and (request.binding.kind, request.binding.thumbprint) == ("jkt", jkt)
    )


def _refusal(connection: Connection, found: DeviceCodeRow, now: float) -> OAuthError | None:
    if found.status == table.USED or not found.alive:
        return _refused()
    if found.expired:
        return OAuthError("expired_token", "the device code has expired")
    if found.status == table.DENIED:
        return OAuthError("access_denied", "the user refused")
    if found.status == table.APPROVED:
        return None
    wait = found.request.interval_seconds - _JITTER_SECONDS
    too_soon = found.polled_at is not None and now - found.polled_at < wait
    table.note_poll(connection, found.request.digest, now, SLOW_DOWN_SECONDS if too_soon else 0)
    if too_soon:
        return OAuthError("slow_down", "ask less often")
    return OAuthError("authorization_pending", "the user has not decided yet")


def _issue(
    services: Services, request: TokenRequest, found: DeviceCodeRow, connection: Connection, now: int
) -> IssuedTokens:
    grant = _grant(services, found, now)
    who = _of_grant(found.authorization, grant)
    scopes, audience = found.request.scopes, found.request.audience
    table.use_device_code(connection, found.request.digest, grant.grant_id)
    insert_grant(connection, grant)
    authorized = Authorized(request.client, scopes, audience, who, request.binding, expires_at=grant.expires_at)
    made = make_access_token(services, authorized, now)
    insert_access_token(connection, made.row)
    refresh_token = id_token = None
    if "refresh_token" in request.client.metadata.grant_types:
        refresh = make_refresh_token(
            services.config, request.client, who, scopes, audience, request.binding, grant.expires_at, now
        )
        insert_refresh_token(connection, refresh.row)
        refresh_token = refresh.refresh_token
    if "openid" in scopes:
        # No `sid`: the session is one of another browser.
        id_token = make_id_token(services, request.client.client_id, who, made.access_token, now)
    return answer(made, refresh_token=refresh_token, id_token=id_token)


def _grant(services: Services, found: DeviceCodeRow, now: int) -> GrantRow:
    """As with a code: without `offline_access` it ends with the session in which it was approved."""
    return GrantRow(
        grant_id=f"g_{secrets.token_hex(16)}",
        client_id=found.request.client_id,
        user_id=found.authorization.user_id or "",
        session_id=None if "offline_access" in found.request.scopes else found.authorization.session_id,
        scopes=found.request.scopes,
        created_at=now,
        expires_at=now + services.config.refresh.seconds,
    )


def _of_grant(who: Authorization, grant: GrantRow) -> Authorization:
    return Authorization(
        user_id=who.user_id,
        user_generation=who.user_generation,
        grant_id=grant.grant_id,
        session_id=grant.session_id,
        auth_time=who.auth_time,
        acr=who.acr,
        amr=who.amr,
    )


def _refused() -> OAuthError:
    return OAuthError("invalid_grant", "the device code is unknown, used, or was given to another client or key")
