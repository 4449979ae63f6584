"""Passkeys (WebAuthn Level 2): discoverable, with user verification, for our origin only.

§13.4.3: a challenge is random, of this browser and used once. Challenges are not stored when they are made, since
anybody may ask for one, but signed; what is stored is that one was used.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy.exc import IntegrityError

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.mfa.changes import FactorProblem, may_change_factors
from stockade.identity.people.client import origin_of
from stockade.identity.people.cookies import browser_digest
from stockade.identity.storage.assertions import use_assertion
from stockade.identity.storage.passkeys import (
    PasskeyRecord,
    advance_passkey,
    delete_passkey,
    find_passkey,
    insert_passkey,
    rename_passkey,
)
from stockade.identity.storage.passkeys import list_passkeys as stored_passkeys
from stockade.identity.storage.recovery import delete_codes
from stockade.identity.storage.users import UserRecord, find_user

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.config import Config
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services

TIMEOUT_SECONDS = 300
MAX_PASSKEYS = 20
MAX_NAME_CHARS = 64
_SIGN_IN, _REGISTRATION = "sign in", "registration"
_NONCE_BYTES, _TIME_BYTES = 16, 8
# EdDSA, ES256, RS256: what authenticators have (RFC 9053, WebAuthn §5.4).
_ALGORITHMS = (-8, -7, -257)


@dataclass(frozen=True, slots=True)
class Shown:
    """A passkey whose signature was right; `accept` decides whether it counts."""

    user: UserRecord
    passkey: PasskeyRecord
    challenge: str
    sign_count: int
    backed_up: bool


def available(config: Config) -> bool:
    """Whether browsers do passkeys here: the issuer must have a name, an address is no RP ID (WebAuthn §5.1.2)."""
    host = urlsplit(config.issuer).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


async def registration_options(
    services: Services, request: HTTPConnection, session: Session
) -> dict[str, Any] | FactorProblem:
    """`PublicKeyCredentialCreationOptionsJSON` (WebAuthn §5.4), for the signed-in person."""
    browser, user = browser_digest(request), session.user
    if not available(services.config):
        return FactorProblem.UNAVAILABLE
    if not may_change_factors(session, services.clock()):
        return FactorProblem.REAUTHENTICATE
    if browser is None:
        return FactorProblem.EXPIRED
    known = await list_passkeys(services, user)
    if len(known) >= MAX_PASSKEYS:
        return FactorProblem.TOO_MANY
    return {
        "rp": {"id": _rp_id(services.config), "name": services.config.people.title},
        "user": {
            "id": _encode(user.user_id.encode()),
            "name": user.username,
            "displayName": user.name or user.username,
        },
        "challenge": _encode(_new_challenge(services, _REGISTRATION, browser, user.user_id)),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in _ALGORITHMS],
        "timeout": TIMEOUT_SECONDS * 1000,
        "excludeCredentials": [{"type": "public-key", "id": one.id} for one in known],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


async def register(
    services: Services, request: HTTPConnection, session: Session, response: str, name: str
) -> PasskeyRecord | FactorProblem:
    """Store the passkey of a `RegistrationResponseJSON`.

    WebAuthn §7.1. Without attestation nothing is signed, so the session does not rise: the passkey must be shown first.
    """
    browser, now, user_id = browser_digest(request), services.clock(), session.user.user_id
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE
    challenge = _challenge_in(response)
    if browser is None or challenge is None or not _is_ours(services, challenge, _REGISTRATION, browser, user_id):
        return FactorProblem.EXPIRED
    record = await asyncio.to_thread(_read_registration, services, response, challenge, user_id, passkey_name(name))
    if record is None:
        return FactorProblem.WRONG
    address = origin_of(request).address

    def work(connection: Connection) -> FactorProblem | None:
        if not _spend(connection, challenge, now):
            return FactorProblem.EXPIRED
        if find_passkey(connection, record.credential_id) is not None:
            return FactorProblem.WRONG
        if len(stored_passkeys(connection, user_id)) >= MAX_PASSKEYS:
            return FactorProblem.TOO_MANY
        insert_passkey(connection, record)
        _record(connection, "factor.added", session, address, now)
        return None

    try:
        problem = await services.lanes.write(work)
    except IntegrityError:
        # Registered by another transaction since we looked.
        return FactorProblem.WRONG
    return problem or record


async def list_passkeys(services: Services, user: UserRecord) -> list[PasskeyRecord]:
    """Those of a person, the oldest first."""
    return await services.lanes.read(lambda connection: stored_passkeys(connection, user.user_id))


async def rename(services: Services, session: Session, passkey_id: str, name: str) -> FactorProblem | None:
    """Give a passkey another name. None: done."""
    credential_id, user_id = _decode(passkey_id), session.user.user_id
    if credential_id is None:
        return FactorProblem.UNKNOWN
    text = passkey_name(name)
    renamed = await services.lanes.write(lambda connection: rename_passkey(connection, user_id, credential_id, text))
    return None if renamed else FactorProblem.UNKNOWN


async def remove(
    services: Services, request: HTTPConnection, session: Session, passkey_id: str, *, confirmed: bool = False
) -> FactorProblem | None:
    """Remove a passkey. None: done. `confirmed`: the person knows that no second factor is left."""
    credential_id, now, address = _decode(passkey_id), services.clock(), origin_of(request).address
    if credential_id is None:
        return FactorProblem.UNKNOWN
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE

    def work(connection: Connection) -> FactorProblem | None:
        user = find_user(connection, session.user.user_id)
        passkey = find_passkey(connection, credential_id)
        if user is None or passkey is None or passkey.user_id != user.user_id:
            return FactorProblem.UNKNOWN
        if user.passkeys == 1 and not user.has_password:
            return FactorProblem.ONLY_WAY_IN
        last = user.passkeys == 1 and not user.has_totp
        if last and not confirmed:
            return FactorProblem.CONFIRM_LAST
        delete_passkey(connection, user.user_id, credential_id)
        if last:
            delete_codes(connection, user.user_id)
        _record(connection, "factor.removed", session, address, now)
        return None

    return await services.lanes.write(work)


def authentication_options(services: Services, request: HTTPConnection) -> dict[str, Any] | FactorProblem:
    """`PublicKeyCredentialRequestOptionsJSON` (WebAuthn §5.5). It does not ask whose passkey, so it tells nothing."""
    browser = browser_digest(request)
    if not available(services.config):
        return FactorProblem.UNAVAILABLE
    if browser is None:
        return FactorProblem.EXPIRED
    return {
        "challenge": _encode(_new_challenge(services, _SIGN_IN, browser, "")),
        "timeout": TIMEOUT_SECONDS * 1000,
        "rpId": _rp_id(services.config),
        "allowCredentials": [],
        "userVerification": "required",
    }


async def verify(services: Services, request: HTTPConnection, response: str) -> Shown | FactorProblem:
    """Check an `AuthenticationResponseJSON` (WebAuthn §7.2), all but the challenge's single use and the counter."""
    browser, challenge = browser_digest(request), _challenge_in(response)
    if browser is None or challenge is None or not _is_ours(services, challenge, _SIGN_IN, browser, ""):
        return FactorProblem.EXPIRED
    credential_id = _decode(_member(response, "id"))
    if credential_id is None:
        return FactorProblem.WRONG

    def look(connection: Connection) -> tuple[PasskeyRecord, UserRecord] | None:
        passkey = find_passkey(connection, credential_id)
        user = find_user(connection, passkey.user_id) if passkey else None
        return (passkey, user) if passkey and user else None

    found = await services.lanes.read(look)
    if found is None or found[1].disabled_at is not None:
        return FactorProblem.WRONG
    shown = await asyncio.to_thread(_read_assertion, services, response, challenge, *found)
    return shown or FactorProblem.WRONG


def accept(connection: Connection, shown: Shown, address: str, now: float) -> bool:
    """Spend the challenge and move the counter, in the caller's transaction.

    WebAuthn §6.1.1: a counter that does not rise speaks of a clone. It is recorded, and the passkey refused.
    """
    if not _spend(connection, shown.challenge, now):
        return False
    credential_id = shown.passkey.credential_id
    if advance_passkey(connection, credential_id, shown.sign_count, int(now), backed_up=shown.backed_up):
        return True
    detail = {"factor": "passkey", "name": shown.passkey.name}
    event = AuditEvent("passkey.clone_suspected", shown.user.user_id, address=address, detail=detail)
    audit.record(connection, event, now)
    return False


def passkey_name(text: str) -> str:
    """A name that can be shown: what is typed without control characters, or `passkey`."""
    shown = "".join(char for char in text if char.isprintable()).strip()
    return shown[:MAX_NAME_CHARS] or "passkey"


def _rp_id(config: Config) -> str:
    return urlsplit(config.issuer).hostname or ""


def _origin(config: Config) -> str:
    parts = urlsplit(config.issuer)
    return f"{parts.scheme}://{parts.netloc}"


def _new_challenge(services: Services, purpose: str, browser: bytes, user_id: str) -> bytes:
    expires = int(services.clock()) + TIMEOUT_SECONDS
    head = secrets.token_bytes(_NONCE_BYTES) + expires.to_bytes(_TIME_BYTES, "big")
    return head + _mac(services, purpose, browser, user_id, head)


def _is_ours(services: Services, challenge: str, purpose: str, browser: bytes, user_id: str) -> bool:
    raw = _decode(challenge) or b""
    head, mac = raw[: _NONCE_BYTES + _TIME_BYTES], raw[_NONCE_BYTES + _TIME_BYTES :]
    if not hmac.compare_digest(mac, _mac(services, purpose, browser, user_id, head)):
        return False
    return int.from_bytes(head[_NONCE_BYTES:], "big") > services.clock()


def _mac(services: Services, purpose: str, browser: bytes, user_id: str, head: bytes) -> bytes:
    return services.derived.digest("passkey challenge", f"{purpose}\x00{browser.hex()}\x00{user_id}\x00{head.hex()}")


def _spend(connection: Connection, challenge: str, now: float) -> bool:
    spent = sha256(_decode(challenge) or b"").hexdigest()
    return use_assertion(connection, "passkey challenge", spent, int(now) + TIMEOUT_SECONDS)


def _challenge_in(response: str) -> str | None:
    """The challenge that the browser says it answers, as it stands in `clientDataJSON`."""
    client_data = _decode(_member(response, "response", "clientDataJSON"))
    if client_data is None:
        return None
    challenge = _member(client_data.decode(errors="replace"), "challenge")
    return challenge or None


def _member(text: str, *path: str) -> str:
    """A string of a JSON object; empty where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    """Base64url without padding; None where it is none, or empty."""
    try:
        decoded = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    return decoded or None


def _read_registration(
    services: Services, response: str, challenge: str, user_id: str, name: str
) -> PasskeyRecord | None:
    # Half a second and five megabytes that a server without passkeys need not spend: imported when one is shown, and
    # off the event loop, as is the work.
    from webauthn import verify_registration_response  # noqa: PLC0415

    try:
        verified = verify_registration_response(
            credential=response,
            expected_challenge=_decode(challenge) or b"",
            expected_rp_id=_rp_id(services.config),
            expected_origin=_origin(services.config),
            require_user_verification=True,
        )
        transports = json.loads(response)["response"].get("transports", ())
    except Exception:  # noqa: BLE001 - the library reads a stranger's CBOR, and raises what its parsers raise
        return None
    return PasskeyRecord(
        credential_id=verified.credential_id,
        user_id=user_id,
        name=name,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        aaguid=verified.aaguid,
        transports=tuple(one for one in transports if one in _TRANSPORTS) if isinstance(transports, list) else (),
        backed_up=verified.credential_backed_up,
        created_at=int(services.clock()),
        last_used_at=None,
    )


def _read_assertion(
    services: Services, response: str, challenge: str, passkey: PasskeyRecord, user: UserRecord
) -> Shown | None:
    from webauthn import verify_authentication_response  # noqa: PLC0415 - as above

    # §7.2 step 6: a discoverable passkey says whose it is.
    if _decode(_member(response, "response", "userHandle")) != user.user_id.encode():
        return None
    try:
        verified = verify_authentication_response(
            credential=response,
            expected_challenge=_decode(challenge) or b"",
            expected_rp_id=_rp_id(services.config),
            expected_origin=_origin(services.config),
            credential_public_key=passkey.public_key,
            # The counter is looked at in the transaction that moves it.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except Exception:  # noqa: BLE001 - as above
        return None
    return Shown(user, passkey, challenge, verified.new_sign_count, verified.credential_backed_up)


_TRANSPORTS = ("ble", "cable", "hybrid", "internal", "nfc", "smart-card", "usb")


def _record(connection: Connection, kind: str, session: Session, address: str, now: float) -> None:
    event = AuditEvent(
        kind, session.user.user_id, session_id=session.session_id, address=address, detail={"factor": "passkey"}
    )
    audit.record(connection, event, now)
