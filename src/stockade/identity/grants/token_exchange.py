"""Token exchange (RFC 8693): a service that was called with a token asks for a smaller one to call on with.

Always less, never more: the scopes are a part of the subject token's and of the client's own, the life ends with the
subject token's, the audience changes only to one that is registered for the client, and what was bound to a key
stays bound to one. Who asks must be a rightful holder: the client that the token was issued to, or the registered
resource server of its audience (`introspection_audiences`), to which it was sent. So a token that leaked to a third
client is of no use here, and no service can be made to trade a token that was meant for another (confused deputy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage.tokens import (
    Authorization,
    Standing,
    StoredCredential,
    find_credential,
    insert_access_token,
)
from stockade.identity.tokens.access import Authorized, answer, make_access_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from stockade.identity.config import Config
    from stockade.identity.endpoints.form import Form
    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.tokens.access import IssuedTokens

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
MAX_ACTORS = 4


async def token_exchange(services: Services, request: TokenRequest) -> IssuedTokens:
    """Exchange an access token of ours for another. All in one transaction: what is revoked meanwhile gives nothing.

    RFC 8693 §2.2.2: `invalid_request` for every fault of subject or actor token, with one text; `invalid_target` for
    an audience that is not the client's, `invalid_scope` for more than there is.
    """
    if not request.client.confidential:
        raise OAuthError("unauthorized_client", "this grant is for clients that prove who they are")
    subject_digest, actor_digest = _read_tokens(request.form)
    target = _read_target(request.form)
    now = services.clock()

    def work(connection: Connection) -> IssuedTokens | OAuthError:
        # Nothing is written before the last check, so a refusal is a result: others' work in the transaction goes on.
        try:
            authorized = _authorize(connection, services.config, request, subject_digest, actor_digest, target, now)
        except OAuthError as refusal:
            return refusal
        made = make_access_token(services, authorized, int(now))
        insert_access_token(connection, made.row)
        return answer(made, issued_token_type=ACCESS_TOKEN_TYPE)

    issued = await services.lanes.write(work)
    if isinstance(issued, OAuthError):
        raise issued
    log("info", "token_exchanged", client_id=request.client.client_id, jti=issued.jti)
    return issued


def _authorize(
    connection: Connection,
    config: Config,
    request: TokenRequest,
    subject_digest: bytes,
    actor_digest: bytes | None,
    target: str | None,
    now: float,
) -> Authorized:
    subject = _alive(connection, subject_digest, now)
    _require_holder(request, subject)
    actor = None if actor_digest is None else _alive(connection, actor_digest, now)
    if actor is not None:
        _require_own(request, actor)
    return Authorized(
        client=request.client,
        scopes=_scopes(config, request, subject),
        audience=_audience(config, request.client, subject, target),
        authorization=_acting(request.client, subject, actor),
        binding=request.binding,
        expires_at=subject.expires_at,
    )


def _read_tokens(form: Form) -> tuple[bytes, bytes | None]:
    """Digests of subject and actor token. RFC 8693 §2.1: a token and its type stand together."""
    if form.optional("requested_token_type") not in (None, ACCESS_TOKEN_TYPE):
        raise invalid_request("`requested_token_type` must be that of access tokens")
    subject, actor = form.required("subject_token"), form.optional("actor_token")
    if form.required("subject_token_type") != ACCESS_TOKEN_TYPE:
        raise invalid_request("`subject_token_type` must be that of access tokens")
    if form.optional("actor_token_type") != (None if actor is None else ACCESS_TOKEN_TYPE):
        raise invalid_request("`actor_token_type` goes with `actor_token` and must be that of access tokens")
    if any(kind_of(text) is not Kind.ACCESS_TOKEN for text in (subject, actor) if text is not None):
        raise _unacceptable()
    return digest(subject), None if actor is None else digest(actor)


def _read_target(form: Form) -> str | None:
    """Where the new token is for. `audience` and `resource` mean the same here (RFC 8693 §2.1.1, RFC 8707)."""
    audience, resource = form.optional("audience"), form.optional("resource")
    if None not in (audience, resource) and audience != resource:
        raise OAuthError("invalid_target", "one target at a time")
    return audience or resource


def _alive(connection: Connection, token_digest: bytes, now: float) -> StoredCredential:
    found = find_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)
    if found is None or found.standing is not Standing.ACTIVE:
        raise _unacceptable()
    return found


def _require_holder(request: TokenRequest, subject: StoredCredential) -> None:
    """The client it was issued to, which must hold the key it is bound to; or the resource server it was sent to.

    A resource server cannot prove the sender's key. It saw the proof when the token came, and is known by its own
    credentials; what it gets must then be bound to a key of its own, so no bound token becomes a bearer token.
    """
    if subject.client_id == request.client.client_id:
        _require_own(request, subject)
        return
    if subject.audience not in request.client.metadata.introspection_audiences:
        raise _unacceptable()
    if subject.authorization.user_id is None:
        # `sub` would have to be the other client, for which a token of this one has no place.
        raise invalid_request("a token without a user can only be exchanged by its own client")
    if subject.binding is not None and request.binding is None:
        raise invalid_request("a bound token is only exchanged for a bound token: send a proof")


def _require_own(request: TokenRequest, token: StoredCredential) -> None:
    """Issued to this client, and bound to nothing but what was proved in this request."""
    if token.client_id != request.client.client_id or token.binding not in (None, request.binding):
        raise _unacceptable()


def _scopes(config: Config, request: TokenRequest, subject: StoredCredential) -> tuple[str, ...]:
    """At most what the subject token has, the client is registered for and the API declares."""
    most = tuple(scope for scope in subject.scopes if scope in request.client.scopes and scope in config.scopes)
    wanted = request.form.optional("scope")
    scopes = most if wanted is None else tuple(dict.fromkeys(wanted.split(" ")))
    if not set(scopes) <= set(most) or not scopes:
        raise OAuthError("invalid_scope", "the subject token or the client does not have the requested scopes")
    return scopes


def _audience(config: Config, client: ClientRecord, subject: StoredCredential, target: str | None) -> str:
    """The subject token's own for its client, else only what is registered (`exchange_audiences`)."""
    audience = target or subject.audience
    allowed = set(client.metadata.exchange_audiences)
    if subject.client_id == client.client_id and subject.audience is not None:
        allowed.add(subject.audience)
    if audience is None or audience not in allowed or audience not in config.audiences:
        raise OAuthError("invalid_target", "this client may not exchange tokens towards the requested audience")
    return audience


def _acting(client: ClientRecord, subject: StoredCredential, actor: StoredCredential | None) -> Authorization:
    """On whose word the new token stands: the subject's, with who acts for it in `act` (RFC 8693 §4.1).

    It hangs on the subject's user, session and grant, and dies with them.
    """
    who = subject.authorization
    return Authorization(
        user_id=who.user_id,
        user_generation=who.user_generation,
        grant_id=who.grant_id,
        session_id=who.session_id,
        auth_time=who.auth_time,
        acr=who.acr,
        amr=who.amr,
        act=_chain(client, subject, actor),
    )


def _chain(client: ClientRecord, subject: StoredCredential, actor: StoredCredential | None) -> Mapping[str, Any] | None:
    """The newest actor outside, those before inside. Whoever acts again right away does not stand there twice."""
    before = subject.authorization.act
    if actor is not None and actor.authorization.act is not None:
        raise invalid_request("an actor token must not itself be a delegated one")
    if actor is None and subject.client_id == client.client_id:
        return before
    name = client.client_id if actor is None else actor.subject
    if before is not None and before.get("sub") == name:
        return before
    chain: dict[str, Any] = {"sub": name} if before is None else {"sub": name, "act": before}
    if _length(chain) > MAX_ACTORS:
        raise invalid_request("too many parties have acted with this token already")
    return chain


def _length(chain: Mapping[str, Any] | None) -> int:
    count = 0
    while chain is not None:
        count, chain = count + 1, chain.get("act")
    return count


def _unacceptable() -> OAuthError:
    """RFC 8693 §2.2.2; one text, so that nothing is learnt of tokens that are not one's own."""
    return invalid_request("the subject or actor token is not acceptable")
