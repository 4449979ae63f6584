"""The ID token (OIDC Core §2): what a client may know of the sign-in, signed."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from stockade.identity.jose import InvalidTokenError, import_public_keys, parse, verify
from stockade.identity.keys.keyring import ALGORITHM

if TYPE_CHECKING:
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.tokens import Authorization

# RFC 8725 §3.11: other JWTs of ours have other types, so none passes for an ID token.
TYPE = "JWT"


@dataclass(frozen=True, slots=True)
class Hint:
    """An ID token that came back: signed by us once, perhaps expired since."""

    subject: str
    client_id: str
    session_id: str | None
    auth_time: Any

    def is_of(self, session: Session) -> bool:
        """Whether it tells of this very sign-in.

        One that came with a refresh of a grant that outlives its session has no `sid`: person and moment name it.
        """
        if self.session_id is None:
            return (self.subject, self.auth_time) == (session.user.user_id, session.auth_time)
        return (self.subject, self.session_id) == (session.user.user_id, session.session_id)


def make_id_token(
    services: Services,
    client_id: str,
    authorization: Authorization,
    access_token: str,
    now: int,
    *,
    nonce: str | None = None,
    session_id: str | None = None,
) -> str:
    """Sign who signed in, when and how. Raises KeysUnavailable.

    OIDC Core §3.1.3.6: `at_hash` ties it to the access token. `session_id` is `sid` (OIDC RP-Initiated Logout §2).
    """
    claims: dict[str, Any] = {
        "iss": services.config.issuer,
        "sub": authorization.user_id,
        "aud": client_id,
        "iat": now,
        "exp": now + services.config.lifetimes.id_token_seconds,
        "auth_time": authorization.auth_time,
        "acr": authorization.acr,
        "amr": list(authorization.amr),
        "at_hash": _left_half(access_token),
        "nonce": nonce,
        "sid": session_id,
    }
    return services.usable_keyring().sign({name: value for name, value in claims.items() if value is not None}, TYPE)


def read_hint(services: Services, text: str) -> Hint | None:
    """Check an `id_token_hint`. None when it is not ours, or its key has left the JWKS.

    OIDC RP-Initiated Logout §2: one that has expired is good as a hint still.
    """
    try:
        token = parse(text)
        verify(token, import_public_keys(services.usable_keyring().public_jwks), (ALGORITHM,))
    except InvalidTokenError:
        return None
    claims = token.claims
    subject, client_id, session_id = claims.get("sub"), claims.get("aud"), claims.get("sid")
    if token.typ != TYPE or claims.get("iss") != services.config.issuer:
        return None
    if not isinstance(subject, str) or not isinstance(client_id, str) or not isinstance(session_id, str | None):
        return None
    return Hint(subject, client_id, session_id, claims.get("auth_time"))


def _left_half(access_token: str) -> str:
    return urlsafe_b64encode(sha256(access_token.encode()).digest()[:16]).rstrip(b"=").decode()
