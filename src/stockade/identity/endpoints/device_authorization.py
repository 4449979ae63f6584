"""`POST /oauth2/device_authorization` (RFC 8628 §3.1, §3.2): a device without a browser asks for codes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from stockade.identity.binding.prove import offer, offers_nonce
from stockade.identity.client_auth import authenticate_client
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.device import make_user_code, shown, user_code_digest
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError, StorageUnavailable
from stockade.identity.grants.client_credentials import select_audience
from stockade.identity.grants.device_code import GRANT_TYPE
from stockade.identity.people.assurance import ACRS
from stockade.identity.people.client import origin_of
from stockade.identity.scopes import select_user_scopes
from stockade.identity.storage.device_codes import NewDeviceCode, insert_device_code
from stockade.identity.storage.sign_in_failures import Bucket, take

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.form import Form
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

# A public client's name is no secret, so anyone can ask; the more codes wait, the sooner a guess hits one.
CLIENT_BURST, CLIENT_SECONDS = 30, 2.0
NETWORK_BURST, NETWORK_SECONDS = 60, 1.0
_ATTEMPTS = 5


@offers_nonce
async def device_authorization(services: Services, request: Request) -> Response:
    """Give out a device code and a user code. A DPoP proof here binds the device code to its key.

    RFC 8628 §3.2; `verification_uri_complete` spares the typing, not the person's comparing (§3.3.1).
    """
    form = await read_form(request)
    client = await authenticate_client(services, request, form)
    if GRANT_TYPE not in client.metadata.grant_types:
        raise OAuthError("unauthorized_client", "this grant type is not registered for the client")
    binding = await offer(services, request)
    jkt = binding.thumbprint if binding else None
    device_code, user_code = await _store(services, client, form, jkt, _budgets(services, request, client))
    services.metrics.count("device_codes_issued")
    page, settings = f"{services.config.issuer}/device", services.config.device
    return private_json(
        {
            "device_code": device_code,
            "user_code": shown(user_code),
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={shown(user_code)}",
            "expires_in": settings.seconds,
            "interval": settings.interval_seconds,
        }
    )


def _budgets(services: Services, request: Request, client: ClientRecord) -> tuple[Bucket, ...]:
    network = origin_of(request).network

    def bucket(text: str, burst: int, seconds: float) -> Bucket:
        return Bucket(services.derived.digest("device authorization budget", text), burst, seconds)

    return (
        bucket(f"{network}\x00{client.client_id}", CLIENT_BURST, CLIENT_SECONDS),
        bucket(network, NETWORK_BURST, NETWORK_SECONDS),
    )


async def _store(
    services: Services, client: ClientRecord, form: Form, jkt: str | None, budgets: tuple[Bucket, ...]
) -> tuple[str, str]:
    config = services.config
    scopes = select_user_scopes(config, client, form.optional("scope"))
    audience = select_audience(config, form.optional("resource"))
    wanted = (form.optional("acr_values") or "").split() or client.metadata.default_acr_values
    for _ in range(_ATTEMPTS):
        device_code, user_code = generate(Kind.DEVICE_CODE), make_user_code()
        row = NewDeviceCode(
            digest=digest(device_code),
            user_code_digest=user_code_digest(services, user_code),
            client_id=client.client_id,
            client_generation=client.generation,
            scopes=scopes,
            audience=audience,
            acr_values=tuple(acr for acr in wanted if acr in ACRS),
            dpop_jkt=jkt,
            interval_seconds=config.device.interval_seconds,
            expires_at=int(services.clock()) + config.device.seconds,
        )
        try:
            wait = await services.lanes.write(partial(_store_once, code=row, budgets=budgets, now=services.clock()))
        except IntegrityError:
            continue
        if wait is not None:
            raise OAuthError("slow_down", "too many codes asked for", 429, {"Retry-After": str(int(wait) + 1)})
        return device_code, user_code
    raise StorageUnavailable("no free user code was found")


def _store_once(connection: Connection, code: NewDeviceCode, budgets: tuple[Bucket, ...], now: float) -> float | None:
    """Seconds to wait, or None and it is stored."""
    wait = take(connection, budgets, now).wait_seconds
    if wait is None:
        insert_device_code(connection, code)
    return wait
