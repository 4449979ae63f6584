"""The administration API: what `stockade user`, `client` and `audit` do, over HTTP, behind a gate of its own.

admin_openapi.yaml describes it and is what the gate enforces: scope, assurance, schemas. Nothing here trusts the
network for that: each request must carry the gate's internal token (RFC 9068), signed by our own key, for this API's
audience, with the scope `stockade:admin`; of a person with the role `admin`, and with two factors where it changes
anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade.errors import StockadeError
from stockade.identity import admin, admin_people, audit
from stockade.identity.admin_people import ADMIN_ROLE
from stockade.identity.endpoints.guard import RETRY_AFTER_SECONDS
from stockade.identity.errors import AdministrationError, AlreadyThereError, NoSuchRecordError, Unavailable
from stockade.identity.jose import InvalidTokenError, import_public_keys, numeric_date, parse, verify
from stockade.identity.keys.keyring import ALGORITHM
from stockade.identity.observability import log, log_defect
from stockade.identity.people.assurance import MFA, satisfies
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.users import find_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from stockade.identity.services import Services
    from stockade.identity.storage import Storage
    from stockade.identity.storage.sessions import SessionRow
    from stockade.identity.storage.users import UserRecord

SCOPE = "stockade:admin"
MAX_BODY_BYTES = 32_768
MAX_PAGE = 200
_MAX_SEQUENCE = 2**53
Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """An answer in the form of RFC 9457. `detail` is for whoever called; it quotes no input."""

    status: int
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be carried out."""

    services: Services
    storage: Storage
    request: Request
    by: str

    async def run(self, work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run one of the operations of admin.py and admin_people.py in a thread; gateways then hear at once."""
        result = await asyncio.to_thread(partial(work, self.storage, *arguments, **options))
        self.services.feed.announce()
        return result

    async def body(self, model: type[Model]) -> Model:
        """The JSON body. Raises Refusal."""
        raw = bytearray()
        async for chunk in self.request.stream():
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                raise Refusal(413, "Content Too Large", "the body is too large")
        try:
            return model.model_validate_json(bytes(raw))
        except ValidationError:
            raise Refusal(422, "Unprocessable Content", "the body does not have the form that is described") from None


def description() -> str:
    """The OpenAPI 3.1 description (YAML): what the gate in front is compiled from."""
    return files("stockade.identity").joinpath("admin_openapi.yaml").read_text()


def admin_app(services: Services, storage: Storage) -> Starlette:
    """The ASGI application. Serve it on loopback only."""
    routes = [
        Route(path, _endpoint(services, storage, f"{method} {path}", handler), methods=[method])
        for method, path, handler in _OPERATIONS
    ]
    application = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    application.router.redirect_slashes = False
    return application


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewUser(_Body):
    """Body of `POST /admin/v1/users`."""

    username: str
    password: str | None = Field(default=None, repr=False)
    name: str | None = None
    email: str | None = None
    roles: list[str] = Field(default=[], max_length=16)
    must_change_password: bool = True


class UserChanges(_Body):
    """Body of `PATCH /admin/v1/users/{user_id}`: only what is there is changed."""

    name: str | None = None
    email: str | None = None
    roles: list[str] = Field(default=[], max_length=16)


class NewPassword(_Body):
    """Body of `PUT /admin/v1/users/{user_id}/password`."""

    password: str = Field(repr=False)


class Credential(_Body):
    """Body of `POST /admin/v1/tokens/revoke`."""

    credential: str = Field(repr=False)


async def _list_users(call: Call) -> Response:
    limit = _limit(call.request)
    found = await call.run(admin_people.list_users, call.request.query_params.get("after", ""), limit)
    more = found[-1].username if len(found) == limit else None
    return _json({"users": [user_json(user) for user in found], "next": more})


async def _create_user(call: Call) -> Response:
    body = await call.body(NewUser)
    made = await call.run(
        admin_people.create_user,
        body.username,
        body.password,
        email=body.email,
        name=body.name,
        roles=body.roles,
        must_change=body.must_change_password,
        passwords=call.services.passwords,
        by=call.by,
    )
    return _json(user_json(made), 201)


async def _show_user(call: Call) -> Response:
    return _json(user_json(await call.run(admin_people.show_user, _user_id(call))))


async def _update_user(call: Call) -> Response:
    body = await call.body(UserChanges)
    changes = body.model_dump(exclude_unset=True)
    return _json(user_json(await call.run(admin_people.update_user, _user_id(call), changes, by=call.by)))


async def _disable_user(call: Call) -> Response:
    return _json(user_json(await call.run(admin_people.disable_user, _user_id(call), by=call.by)))


async def _enable_user(call: Call) -> Response:
    return _json(user_json(await call.run(admin_people.enable_user, _user_id(call), by=call.by)))


async def _set_password(call: Call) -> Response:
    body = await call.body(NewPassword)
    changed = await call.run(
        admin_people.set_password, _user_id(call), body.password, passwords=call.services.passwords, by=call.by
    )
    return _json(user_json(changed))


async def _reset_factors(call: Call) -> Response:
    return _json(user_json(await call.run(admin_people.reset_factors, _user_id(call), by=call.by)))


async def _list_sessions(call: Call) -> Response:
    idle_seconds = call.services.config.sessions.idle_seconds
    found = await call.run(admin_people.list_sessions, _user_id(call), idle_seconds)
    return _json({"sessions": [session_json(row) for row in found]})


async def _revoke_sessions(call: Call) -> Response:
    return _json({"ended": await call.run(admin_people.revoke_sessions, _user_id(call), by=call.by)})


async def _revoke_session(call: Call) -> Response:
    session_id = call.request.path_params["session_id"]
    return _json({"ended": int(await call.run(admin_people.revoke_session, session_id, by=call.by))})


async def _list_clients(call: Call) -> Response:
    found = await call.run(admin.list_clients)
    return _json({"clients": [_client_json(one) for one in found]})


async def _disable_client(call: Call) -> Response:
    client_id = await _client_id(call)
    await call.run(admin.disable_client, client_id, by=call.by)
    return Response(status_code=204)


async def _enable_client(call: Call) -> Response:
    client_id = await _client_id(call)
    await call.run(admin.enable_client, client_id, by=call.by)
    return Response(status_code=204)


async def _revoke_token(call: Call) -> Response:
    body = await call.body(Credential)
    return _json({"revoked": await call.run(admin.revoke_token, body.credential, by=call.by)})


async def _list_audit(call: Call) -> Response:
    limit, after = _limit(call.request), _number(call.request, "after", 0, _MAX_SEQUENCE)
    rows = await call.run(admin_people.audit_page, after, limit, call.request.query_params.get("user_id"))
    events = [audit_json(row) for row in rows]
    return _json({"events": events, "next": rows[-1].sequence if len(rows) == limit else None})


def user_json(user: UserRecord) -> dict[str, Any]:
    """A person as JSON, here and at the command line."""
    shown = asdict(user)
    del shown["generation"]
    return {**shown, "roles": list(user.roles)}


def session_json(row: SessionRow) -> dict[str, Any]:
    """A session as JSON, here and at the command line."""
    shown = asdict(row)
    del shown["user_generation"], shown["revoked_at"]
    return {**shown, "amr": list(row.amr)}


def audit_json(row: audit.AuditRow) -> dict[str, Any]:
    """An event as JSON, here and at the command line; `digest` in hexadecimal."""
    event = asdict(row.event)
    return {"sequence": row.sequence, "time": row.time, **event, "digest": row.digest.hex()}


_OPERATIONS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/admin/v1/users", _list_users),
    ("POST", "/admin/v1/users", _create_user),
    ("GET", "/admin/v1/users/{user_id}", _show_user),
    ("PATCH", "/admin/v1/users/{user_id}", _update_user),
    ("POST", "/admin/v1/users/{user_id}/disable", _disable_user),
    ("POST", "/admin/v1/users/{user_id}/enable", _enable_user),
    ("PUT", "/admin/v1/users/{user_id}/password", _set_password),
    ("DELETE", "/admin/v1/users/{user_id}/factors", _reset_factors),
    ("GET", "/admin/v1/users/{user_id}/sessions", _list_sessions),
    ("DELETE", "/admin/v1/users/{user_id}/sessions", _revoke_sessions),
    ("DELETE", "/admin/v1/sessions/{session_id}", _revoke_session),
    ("GET", "/admin/v1/clients", _list_clients),
    ("POST", "/admin/v1/clients/{client_id}/disable", _disable_client),
    ("POST", "/admin/v1/clients/{client_id}/enable", _enable_client),
    ("POST", "/admin/v1/tokens/revoke", _revoke_token),
    ("GET", "/admin/v1/audit", _list_audit),
)


def _endpoint(
    services: Services, storage: Storage, operation: str, handler: Callable[[Call], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """The frame round each operation: who calls, and an answer whatever happens."""

    async def endpoint(request: Request) -> Response:
        try:
            subject = await authenticate(services, request, operation)
            return await handler(Call(services, storage, request, subject))
        except Refusal as refusal:
            return _problem(refusal)
        except AdministrationError as error:
            return _problem(_refusal_of(error))
        except Unavailable as error:
            services.metrics.count("unavailable", dependency=error.metric)
            log("error", "dependency_unavailable", dependency=error.metric, reason=error.reason, path="/admin")
            again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return _problem(Refusal(503, "Service Unavailable", "try again in a moment"), again)
        except StockadeError as error:
            return _problem(Refusal(422, "Unprocessable Content", error.message))
        except Exception as error:  # noqa: BLE001 - the last line of defence
            services.metrics.count("internal_errors")
            log_defect("internal_error", error)
            return _problem(Refusal(500, "Internal Server Error", "the request could not be carried out"))

    return endpoint


async def authenticate(services: Services, request: Request, operation: str) -> str:
    """Who calls, by the internal token of the gate in front (RFC 9068 §4). Raises Refusal.

    A token that is bound to an operation (`GET /admin/v1/users`, as described) is good for that one alone.

    A person (`u_…`) must have the role and, to change anything, have shown two factors; a client that acts for itself
    has neither, so it can only look.
    """
    claims = _claims(services, request)
    subject, acr, scopes = claims.get("sub"), claims.get("acr", ""), claims.get("scope", "")
    if not isinstance(subject, str) or not isinstance(acr, str) or not isinstance(scopes, str):
        raise _unauthorized()
    if claims.get("operation", operation) != operation:
        raise _unauthorized()
    changes = not operation.startswith("GET ")
    if SCOPE not in scopes.split(" ") or (changes and not satisfies(acr, MFA)):
        raise _forbidden()
    if subject != claims.get("client_id"):
        user = await services.lanes.read(lambda connection: find_user(connection, subject))
        if user is None or user.disabled_at is not None or ADMIN_ROLE not in user.roles:
            raise _forbidden()
    return subject


def _claims(services: Services, request: Request) -> Mapping[str, Any]:
    """RFC 9068 §4: `typ`, signature, `iss`, `aud`, `exp`."""
    values = request.headers.getlist("authorization")
    scheme, _, text = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise _unauthorized()
    keys = import_public_keys(services.usable_keyring().public_jwks, (ALGORITHM,))
    try:
        token = parse(text)
        verify(token, keys, (ALGORITHM,))
    except InvalidTokenError:
        raise _unauthorized() from None
    claims, now = token.claims, services.clock()
    expires_at = numeric_date(claims.get("exp"))
    audience = services.config.admin_audience
    right = (
        token.typ == "at+jwt"
        and claims.get("iss") == services.config.issuer
        and audience is not None
        and claims.get("aud") == audience
        and expires_at is not None
        and expires_at > now
    )
    if not right:
        raise _unauthorized()
    return claims


def _refusal_of(error: AdministrationError) -> Refusal:
    if isinstance(error, NoSuchRecordError):
        return Refusal(404, "Not Found", "there is no such user, session or client")
    if isinstance(error, AlreadyThereError):
        return Refusal(409, "Conflict", "the name is taken")
    return Refusal(422, "Unprocessable Content", error.message)


def _forbidden() -> Refusal:
    return Refusal(403, "Forbidden", "this request is not permitted")


def _unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "the request carries no internal token of this gate")


def _user_id(call: Call) -> str:
    return str(call.request.path_params["user_id"])


async def _client_id(call: Call) -> str:
    client_id, now = str(call.request.path_params["client_id"]), call.services.clock()
    found = await call.services.lanes.read(lambda connection: find_client(connection, client_id, now))
    if found is None:
        raise NoSuchRecordError("no such client")
    return client_id


def _limit(request: Request) -> int:
    return _number(request, "limit", 50, MAX_PAGE) or 1


def _number(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(largest)) or int(text) > largest:
        raise Refusal(422, "Unprocessable Content", f"`{name}` is a number up to {largest}")
    return int(text)


def _client_json(client: admin.ListedClient) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "auth_method": client.auth_method.value,
        "scopes": list(client.scopes),
        "created_at": client.created_at,
        "disabled_at": client.disabled_at,
    }


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, headers=_HEADERS)


def _problem(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    body = {"type": "about:blank", "title": refusal.title, "status": refusal.status, "detail": refusal.detail}
    return JSONResponse(
        body, refusal.status, media_type="application/problem+json", headers={**_HEADERS, **(headers or {})}
    )


async def _not_found(_request: Request, _error: Exception) -> Response:
    return _problem(Refusal(404, "Not Found", "there is nothing here"))


async def _not_allowed(_request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "")
    return _problem(Refusal(405, "Method Not Allowed", "not with this method"), {"Allow": allow})


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
