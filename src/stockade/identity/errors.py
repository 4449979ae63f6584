"""What goes wrong in the authorization server, by reader.

::

    OAuthError                the caller over HTTP: RFC 6749 §5.2
    StorageUnavailable        the database cannot answer now: 503 with Retry-After, nothing half-issued
    KeysUnavailable           no usable signing key: 503 until the operator acts
    PasswordsBusy             more passwords to check than there are cores: 503, the caller tries again
    IssuerUnavailable         the external issuer cannot be asked: 503 to the gateway
    AdministrationError       the operator at the command line (a StockadeError), or the admin API's caller
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stockade.errors import StockadeError


@dataclass(frozen=True)
class OAuthError(Exception):
    """A refusal in the form of RFC 6749 §5.2. `description` is safe for an attacker to read: fixed text, no input."""

    error: str
    description: str
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


class Unavailable(Exception):  # noqa: N818 - the name says what the caller is told
    """A dependency cannot answer. The caller gets 503 with `Retry-After`; `reason` is for the log alone."""

    metric = "unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageUnavailable(Unavailable):
    """The database is down, locked, full or too busy. Nothing was committed, so nothing was issued."""

    metric = "storage"


class KeysUnavailable(Unavailable):
    """No signing key can be used: the rows are gone, or the key-encryption key does not open them."""

    metric = "keys"


class PasswordsBusy(Unavailable):
    """As many passwords are being checked as may be at a time; a pile-up would starve everybody."""

    metric = "passwords"


class IssuerUnavailable(Unavailable):
    """The external issuer's metadata or keys cannot be had, so its tokens can be neither accepted nor refused."""

    metric = "issuer"


class AdministrationError(StockadeError):
    """An administrative operation cannot be done as asked."""


class NoSuchRecordError(AdministrationError):
    """What is to be administered does not exist."""


class AlreadyThereError(AdministrationError):
    """The name is taken."""


def invalid_request(description: str) -> OAuthError:
    """RFC 6749 §5.2 `invalid_request`."""
    return OAuthError("invalid_request", description)


def invalid_client() -> OAuthError:
    """RFC 6749 §5.2 `invalid_client`: one text for every cause, so that nothing can be enumerated."""
    return OAuthError(
        "invalid_client",
        "client authentication failed",
        status=401,
        headers={"WWW-Authenticate": 'Basic realm="stockade", charset="UTF-8"'},
    )
