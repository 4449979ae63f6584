"""Which budgets an attempt draws on. Nobody can use up another's: see devices.py.

A stranger's browser draws on three: name and network, network, name. The name's is wide and only ever slows strangers
down; it is kept for names that do not exist as well, so that it tells nothing. A browser in which the person has
signed in before draws on its own alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity.storage.sign_in_failures import Bucket, give_back, refill

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.services import Services


@dataclass(frozen=True, slots=True)
class Budgets:
    """`own` is filled again by a success, from `shared` a success gets back what it took."""

    own: tuple[Bucket, ...]
    shared: tuple[Bucket, ...] = ()

    @property
    def all(self) -> tuple[Bucket, ...]:
        """What to take from."""
        return self.own + self.shared

    def succeeded(self, connection: Connection) -> None:
        """The attempt was right."""
        for bucket in self.own:
            refill(connection, bucket)
        give_back(connection, self.shared)

    def untouched(self, connection: Connection) -> None:
        """The attempt was not made."""
        give_back(connection, self.all)


def password_budgets(services: Services, name_key: str, network: str, device: str | None) -> Budgets:
    """For a name with a password. `device`: the browser's name where it is one of the person's."""
    limits = services.config.throttling.people
    if device is not None:
        name = f"device {name_key}\x00{device}"
        return Budgets((_bucket(services, name, limits.device_burst, limits.device_seconds_each),))
    return Budgets(
        own=(_bucket(services, f"pair {name_key}\x00{network}", limits.pair_burst, limits.pair_seconds_each),),
        shared=(
            _bucket(services, f"network {network}", limits.network_burst, limits.network_seconds_each),
            _bucket(services, f"name {name_key}", limits.name_burst, limits.name_seconds_each),
        ),
    )


def code_budgets(services: Services, kind: str, user_id: str, device: str | None) -> Budgets:
    """For codes of the second factor, `kind` by `kind`: whoever gets here knows the password.

    The person's own browsers have a budget each, so that a thief of the password cannot use up theirs.
    """
    limits = services.config.throttling.people
    name = f"{kind} {user_id}\x00{device or ''}"
    return Budgets((_bucket(services, name, limits.code_burst, limits.code_seconds_each),))


def passkey_budgets(services: Services, network: str) -> Budgets:
    """For passkeys: they cannot be guessed, so this only bounds the noise of one network."""
    limits = services.config.throttling.people
    return Budgets((), (_bucket(services, f"passkey {network}", limits.network_burst, limits.network_seconds_each),))


def _bucket(services: Services, text: str, burst: int, seconds_each: float) -> Bucket:
    return Bucket(services.derived.digest("sign-in throttle", text), burst, seconds_each)
