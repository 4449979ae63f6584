"""What the endpoints work with. One instance a process; only `config`, `keyring` and `external` are ever replaced."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.identity.errors import KeysUnavailable
from stockade.identity.people.passwords import Passwords

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.identity.client_auth.throttle import Throttle
    from stockade.identity.config import Config
    from stockade.identity.external import ExternalTokens
    from stockade.identity.keys.derive import DerivedKeys
    from stockade.identity.keys.keyring import Keyring
    from stockade.identity.keys.seal import Seal
    from stockade.identity.observability import Metrics
    from stockade.identity.revocation_feed import RevocationFeed
    from stockade.identity.storage.lanes import Lanes


@dataclass(slots=True)
class Services:
    """Configuration, database, keys and counters. `keyring` is None while the keys cannot be used."""

    config: Config
    lanes: Lanes
    keyring: Keyring | None
    feed: RevocationFeed
    throttle: Throttle
    metrics: Metrics
    external: ExternalTokens | None
    seal: Seal
    derived: DerivedKeys
    clock: Callable[[], float] = time.time
    passwords: Passwords = field(default_factory=Passwords)

    def usable_keyring(self) -> Keyring:
        """The keys, or KeysUnavailable."""
        if self.keyring is None:
            raise KeysUnavailable("the signing keys cannot be used")
        return self.keyring
