"""The grants, one module each. This list is the registry: what is not in it cannot be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.grants.authorization_code import authorization_code
from stockade.identity.grants.client_credentials import client_credentials
from stockade.identity.grants.device_code import device_code
from stockade.identity.grants.refresh_token import refresh_token
from stockade.identity.grants.token_exchange import token_exchange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.tokens.access import IssuedTokens

    Grant = Callable[[Services, TokenRequest], Awaitable[IssuedTokens]]

GRANTS: Mapping[str, Grant] = {
    "authorization_code": authorization_code,
    "client_credentials": client_credentials,
    "refresh_token": refresh_token,
    "urn:ietf:params:oauth:grant-type:device_code": device_code,
    "urn:ietf:params:oauth:grant-type:token-exchange": token_exchange,
}
