"""Which endpoint stands where: the two ASGI applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route

from stockade.identity.endpoints import canary
from stockade.identity.endpoints.authorize import authorize, authorize_by_form, proceed
from stockade.identity.endpoints.cors import RegisteredOrigins, for_every_site, for_registered_origins
from stockade.identity.endpoints.device_authorization import device_authorization
from stockade.identity.endpoints.guard import guarded, private_json
from stockade.identity.endpoints.internal import health, metrics, revocations
from stockade.identity.endpoints.introspect import introspect
from stockade.identity.endpoints.introspect_public import introspect_public
from stockade.identity.endpoints.logout import logged_out, logout, logout_by_form
from stockade.identity.endpoints.metadata import jwks, metadata
from stockade.identity.endpoints.par import par
from stockade.identity.endpoints.register import delete_client, read_client, register, replace_client
from stockade.identity.endpoints.revoke import revoke
from stockade.identity.endpoints.token import token
from stockade.identity.endpoints.userinfo import userinfo
from stockade.identity.pages.routes import page_routes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.guard import Handler
    from stockade.identity.services import Services


# RFC 8705 §5
MUTUAL_TLS_ENDPOINTS = ("token", "par", "revoke", "introspect", "device_authorization", "userinfo")


def public_app(services: Services) -> Starlette:
    """What clients and upstreams reach. With an external issuer nothing is issued here."""
    base = services.config.base_path
    endpoints: list[tuple[str, str, Handler]] = [
        # RFC 8414 §3.1 puts the issuer's path behind the well-known name, OpenID Connect Discovery before it.
        ("GET", f"/.well-known/oauth-authorization-server{base}", metadata),
        ("GET", f"{base}/.well-known/openid-configuration", metadata),
        ("GET", f"{base}/oauth2/jwks", jwks),
    ]
    if services.config.external is None:
        endpoints += [
            ("GET", f"{base}/oauth2/authorize", authorize),
            ("POST", f"{base}/oauth2/authorize", authorize_by_form),
            ("GET", f"{base}/oauth2/authorize/continue", proceed),
            ("POST", f"{base}/oauth2/par", par),
            ("GET", f"{base}/oauth2/userinfo", userinfo),
            ("POST", f"{base}/oauth2/userinfo", userinfo),
            ("GET", f"{base}/oauth2/logout", logout),
            ("POST", f"{base}/oauth2/logout", logout_by_form),
            ("GET", f"{base}/oauth2/logout/continue", logged_out),
            ("POST", f"{base}/oauth2/token", token),
            ("POST", f"{base}/oauth2/revoke", revoke),
            ("POST", f"{base}/oauth2/device_authorization", device_authorization),
            ("POST", f"{base}/oauth2/introspect", introspect_public),
            ("POST", f"{base}/oauth2/register", register),
            ("GET", f"{base}/oauth2/register/{{client_id}}", read_client),
            ("PUT", f"{base}/oauth2/register/{{client_id}}", replace_client),
            ("DELETE", f"{base}/oauth2/register/{{client_id}}", delete_client),
        ]
    application = _application(services, endpoints)
    _open_to_browsers(services, application)
    if services.config.external is None:
        application.router.routes.extend(page_routes(services))
    return application


def mutual_tls_app(services: Services) -> Starlette:
    """What clients reach with their certificates: of the public endpoints those in `mtls_endpoint_aliases`."""
    application = public_app(services)
    paths = {f"{services.config.base_path}/oauth2/{name}" for name in MUTUAL_TLS_ENDPOINTS}
    routes = application.router.routes
    routes[:] = [route for route in routes if isinstance(route, Route) and route.path in paths]
    return application


def _open_to_browsers(services: Services, application: Starlette) -> None:
    """CORS: metadata and keys for every site, token, revocation and userinfo for registered applications."""
    base, origins = services.config.base_path, RegisteredOrigins(services)
    public = {f"/.well-known/oauth-authorization-server{base}", f"{base}/.well-known/openid-configuration"}
    public.add(f"{base}/oauth2/jwks")
    registered = {f"{base}/oauth2/{name}" for name in ("token", "revoke", "userinfo")}
    for position, route in enumerate(application.router.routes):
        if isinstance(route, Route) and route.path in public:
            opened = for_every_site(route.endpoint)
        elif isinstance(route, Route) and route.path in registered:
            opened = for_registered_origins(origins, route.endpoint)
        else:
            continue
        methods = [*(route.methods or ()), "OPTIONS"]
        application.router.routes[position] = Route(route.path, opened, methods=methods)


def internal_app(services: Services) -> Starlette:
    """What the gateway and the supervisor reach, over mutual TLS."""
    return _application(
        services,
        [
            ("POST", "/internal/introspect", introspect),
            ("GET", "/internal/revocations", revocations),
            ("POST", "/internal/canary", canary.issue),
            ("POST", "/internal/canary/revoke", canary.revoke),
            ("GET", "/internal/health", health),
            ("GET", "/internal/metrics", metrics),
        ],
    )


def _application(services: Services, endpoints: list[tuple[str, str, Handler]]) -> Starlette:
    routes = [Route(path, guarded(services, handler), methods=[method]) for method, path, handler in endpoints]
    application = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    application.router.redirect_slashes = False
    return application


async def _not_found(_request: Request, _error: Exception) -> Response:
    return private_json({"error": "not_found"}, 404)


async def _not_allowed(_request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "").split(", ")
    return private_json({"error": "method_not_allowed"}, 405, {"Allow": ", ".join(sorted(allow))})
