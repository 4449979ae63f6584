"""User codes of the device grant (RFC 8628 §3.3, §5, §6.1): what the device page needs.

The page finds the request behind a typed code and starts an interaction for it, which always asks for consent: a code
that a stranger sent says nothing about whose device it is (§5.4). `decide` records the answer with the interaction.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity.interactions import Decision, DeviceRequest, finish
from stockade.identity.observability import log
from stockade.identity.people.client import Origin
from stockade.identity.storage import device_codes as table
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.sign_in_failures import Bucket, give_back, take
from stockade.identity.storage.tokens import Authorization

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.interactions import Interaction
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

# RFC 8628 §6.1: no vowels, so no words; nothing that is confused with a digit. 20^8 codes, 34 bits.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_CHARS = 8
# Of 20^8 codes, one network can try some 30 in the ten minutes that one lives.
GUESSES = 10
GUESS_SECONDS = 30.0
_MAX_TYPED_CHARS = 64


class TooManyGuessesError(Exception):
    """An address typed too many codes that do not exist. `wait_seconds` until the next try."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("too many user codes were tried")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A request that waits for a decision, its client, and the code as to be shown for comparison."""

    request: DeviceRequest
    client: ClientRecord
    user_code: str


async def find(services: Services, typed: str, address: str) -> FoundDevice | None:
    """The request behind a typed code: None when there is none, or it is decided or expired.

    RFC 8628 §5.1: each network has a budget of wrong codes, kept in the database, so neither a restart nor a second
    server gives more. What cannot be a code at all costs nothing. Raises TooManyGuessesError, StorageUnavailable.
    """
    code = normal_user_code(typed)
    if code is None:
        return None
    wanted, now = user_code_digest(services, code), services.clock()
    network = Origin(address, "").network
    budget = Bucket(services.derived.digest("device user code budget", network), GUESSES, GUESS_SECONDS)

    def work(connection: Connection) -> FoundDevice | float | None:
        # Taken first, so that guesses made at once all count.
        if (wait := take(connection, (budget,), now).wait_seconds) is not None:
            return wait
        found = _find(connection, wanted, code, now)
        if found is not None:
            give_back(connection, (budget,))
        return found

    outcome = await services.lanes.write(work)
    if isinstance(outcome, float):
        services.metrics.count("user_codes_throttled")
        raise TooManyGuessesError(outcome)
    if outcome is None:
        services.metrics.count("user_codes_unknown")
        log("warning", "user_code_unknown", address=address)
    return outcome


async def decide(
    services: Services, interaction: Interaction, session: Session, decision: Decision, address: str | None = None
) -> bool:
    """Record the person's answer to a device request, with the interaction's: both or neither.

    False where it was decided before, or the code has expired meanwhile: the device gets nothing.
    """
    request = interaction.request
    if not isinstance(request, DeviceRequest):
        raise TypeError("not the interaction of a device")
    who = _authorization(session) if decision is Decision.ALLOWED else None

    def also(connection: Connection, now: float) -> None:
        if not table.decide(connection, bytes.fromhex(request.device), who, now):
            raise _GoneError

    try:
        return await finish(services, interaction, session, decision, address, also)
    except _GoneError:
        return False


def make_user_code() -> str:
    """A fresh code, as `normal_user_code` has it."""
    return "".join(secrets.choice(ALPHABET) for _ in range(USER_CODE_CHARS))


def shown(user_code: str) -> str:
    """`XXXX-XXXX`, for people to read and type."""
    return f"{user_code[:4]}-{user_code[4:]}"


def normal_user_code(typed: str) -> str | None:
    """RFC 8628 §6.1: letter case and everything that is no letter of ours make no difference. None for no code."""
    if len(typed) > _MAX_TYPED_CHARS:
        return None
    code = "".join(letter for letter in typed.upper() if letter in ALPHABET)
    # A vowel or digit is a typing error, not a separator.
    stray = any(character.isalnum() and character not in ALPHABET for character in typed.upper())
    return code if len(code) == USER_CODE_CHARS and not stray else None


def user_code_digest(services: Services, user_code: str) -> bytes:
    """What stands in the database: keyed, since 34 bits are soon tried."""
    return services.derived.digest("device user code", user_code)


class _GoneError(Exception):
    """Rolls the interaction's decision back."""


def _find(connection: Connection, wanted: bytes, code: str, now: float) -> FoundDevice | None:
    pending = table.find_pending(connection, wanted, now)
    client = None if pending is None else find_client(connection, pending.client_id, now)
    if pending is None or client is None or client.disabled_at is not None:
        return None
    if client.generation != pending.client_generation:
        return None
    request = DeviceRequest(
        client_id=pending.client_id,
        scopes=pending.scopes,
        audience=pending.audience,
        device=pending.digest.hex(),
        acr_values=pending.acr_values,
    )
    return FoundDevice(request, client, shown(code))


def _authorization(session: Session) -> Authorization:
    return Authorization(
        user_id=session.user.user_id,
        user_generation=session.user.generation,
        session_id=session.session_id,
        auth_time=session.auth_time,
        acr=session.acr,
        amr=session.amr,
    )
