"""Recovery codes: ten of 80 random bits, shown once, each good once in place of the second factor.

NIST SP 800-63B §5.1.2 (look-up secrets): kept keyed, each used once. The key is derived from one that is not in the
database, so a stolen database cannot be searched for them.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from typing import TYPE_CHECKING

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.mfa.changes import FactorProblem, may_change_factors
from stockade.identity.people.client import origin_of
from stockade.identity.storage.recovery import replace_codes, spend_code

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.keys.derive import DerivedKeys
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services

COUNT = 10
BYTES = 10
_SHAPE = re.compile(r"[a-z2-7]{16}")
# What a hand writes for what base32 has.
_MISREAD = str.maketrans({"0": "o", "1": "l", "8": "b", "-": None, " ": None})


async def regenerate(services: Services, request: HTTPConnection, session: Session) -> tuple[str, ...] | FactorProblem:
    """New codes, shown once as `xxxx-xxxx-xxxx-xxxx`; those from before are worth nothing."""
    now, address, user_id = services.clock(), origin_of(request).address, session.user.user_id
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE
    codes = tuple(_new_code() for _ in range(COUNT))
    digests = [_digest(services.derived, user_id, code) for code in codes]
    event = AuditEvent(
        "factor.added", user_id, session_id=session.session_id, address=address, detail={"factor": "recovery_codes"}
    )

    def work(connection: Connection) -> None:
        replace_codes(connection, user_id, digests, int(now))
        audit.record(connection, event, now)

    await services.lanes.write(work)
    return codes


def accept(connection: Connection, derived: DerivedKeys, user_id: str, code: str, now: float, address: str) -> bool:
    """Use a code up, in the caller's transaction."""
    if not _SHAPE.fullmatch(_compact(code)):
        return False
    if not spend_code(connection, user_id, _digest(derived, user_id, code), int(now)):
        return False
    audit.record(connection, AuditEvent("recovery_code.used", user_id, address=address), now)
    return True


def _new_code() -> str:
    text = b32encode(secrets.token_bytes(BYTES)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _compact(code: str) -> str:
    return code.strip().lower().translate(_MISREAD)


def _digest(derived: DerivedKeys, user_id: str, code: str) -> bytes:
    return derived.digest("recovery code", f"{user_id}\x00{_compact(code)}")
