"""Reading client metadata (RFC 7591 §2) from a stranger: what it may hold, and what it comes to.

Everything is checked before anything is stored. Nothing in it is ever fetched, and no member of ours that an
administrator gives (`first_party`, audiences) can be had this way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stockade.identity.client_rules import check_keys, require_coherent
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.errors import AdministrationError, OAuthError, invalid_request
from stockade.identity.profile import is_fapi2
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from stockade.identity.config import Config

MAX_BODY_BYTES = 32_768
MAX_ITEMS = 16
# Members of ClientMetadata that a client may say of itself.
REGISTRABLE = (
    "redirect_uris",
    "post_logout_redirect_uris",
    "application_type",
    "require_pushed_authorization_requests",
    "dpop_bound_access_tokens",
    "tls_client_certificate_bound_access_tokens",
    "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
    "id_token_signed_response_alg",
    "default_max_age",
    "default_acr_values",
    "require_auth_time",
    "client_name",
    "client_uri",
    "policy_uri",
    "tos_uri",
    "contacts",
    "software_id",
    "software_version",
)
# Documents that the server or the user's browser would have to fetch: refused aloud, not dropped, lest a client rely
# on them (server-side request forgery, RFC 7591 §5).
FETCHED = ("jwks_uri", "sector_identifier_uri", "request_uris", "logo_uri", "initiate_login_uri")
_URIS = ("redirect_uris", "post_logout_redirect_uris")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may have at most: of its initial access token, or what it has."""

    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """Checked, each part and all together."""

    auth_method: AuthMethod
    jwks: dict[str, Any] | None
    scopes: tuple[str, ...]
    metadata: ClientMetadata


async def read_document(request: Request) -> dict[str, Any]:
    """The JSON object of the body. Raises `invalid_request`, 413 where it is too large."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or "content-encoding" in request.headers:
        raise invalid_request("the body must be application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise OAuthError("invalid_request", "the body is too large", 413, {"Connection": "close"})
    try:
        document = json.loads(bytes(body).decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        # Half a character is no text (RFC 8259 §8.2).
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise invalid_request("the body is not well-formed JSON") from None
    if not isinstance(document, dict):
        raise invalid_request("the body must be a JSON object")
    # RFC 7591 §2: null is as good as absent.
    return {name: value for name, value in document.items() if value is not None}


def read_registration(config: Config, document: Mapping[str, Any], limits: Limits) -> Registration:
    """Check it all. Raises OAuthError of RFC 7591 §3.2.2; unknown members are dropped (§2)."""
    _refuse_fetched(document)
    grant_types = _grant_types(document, limits)
    metadata = _metadata(config, document, grant_types)
    method = _method(config, document)
    try:
        require_coherent(method, metadata)
    except AdministrationError as error:
        raise _unusable(f"the client metadata do not fit together: {_plain(error)}") from None
    return Registration(method, _jwks(method, document), _scopes(document, limits), metadata)


def _refuse_fetched(document: Mapping[str, Any]) -> None:
    if "software_statement" in document:
        raise OAuthError("invalid_software_statement", "software statements are not supported")
    if any(name in document for name in FETCHED):
        raise _unusable("members that name documents to fetch are not supported: send keys in `jwks`")


def _grant_types(document: Mapping[str, Any], limits: Limits) -> tuple[str, ...]:
    grant_types = _texts(document, "grant_types", ("authorization_code",))
    if not set(grant_types) <= set(limits.grant_types):
        raise _unusable("a grant type is unknown or not allowed here")
    expected = ["code"] if "authorization_code" in grant_types else []
    if list(_texts(document, "response_types", expected)) != expected:
        raise _unusable("`response_types` must be `code` with `authorization_code`, and empty without")
    return grant_types


def _metadata(config: Config, document: Mapping[str, Any], grant_types: tuple[str, ...]) -> ClientMetadata:
    values = {name: document[name] for name in REGISTRABLE if name in document}
    for name, value in values.items():
        _require_plain(name, value)
    profile = "fapi2" if is_fapi2(config) else ""
    try:
        metadata = ClientMetadata.model_validate_json(
            json.dumps(values | {"grant_types": grant_types, "profile": profile, "registered_by": "dynamic"}),
            strict=True,
        )
    except ValidationError as error:
        member = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
        if member in _URIS:
            raise _invalid_redirect() from None
        # Names that a stranger chose are not repeated; these are ours.
        raise _unusable(f"`{member}` is malformed") from None
    _require_web_redirects(metadata)
    return metadata


def _require_web_redirects(metadata: ClientMetadata) -> None:
    """OIDC Dynamic Client Registration §2 `application_type`: https for the web, loopback and app schemes if native."""
    uris = (*metadata.redirect_uris, *metadata.post_logout_redirect_uris)
    if metadata.application_type == "web" and not all(uri.startswith("https://") for uri in uris):
        raise _invalid_redirect()
    if metadata.application_type == "native" and any(uri.startswith("http://localhost") for uri in uris):
        # RFC 8252 §8.3: a name can lead elsewhere.
        raise _invalid_redirect()


def _method(config: Config, document: Mapping[str, Any]) -> AuthMethod:
    """RFC 7591 §2: `client_secret_basic` unless said otherwise; certificates only where a listener takes them."""
    try:
        method = AuthMethod(document.get("token_endpoint_auth_method", AuthMethod.CLIENT_SECRET_BASIC.value))
    except ValueError:
        raise _unusable("`token_endpoint_auth_method` is not supported") from None
    if config.mtls is None and method in (AuthMethod.TLS_CLIENT_AUTH, AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH):
        raise _unusable("`token_endpoint_auth_method` is not supported")
    return method


def _jwks(method: AuthMethod, document: Mapping[str, Any]) -> dict[str, Any] | None:
    jwks = document.get("jwks")
    if jwks is not None and not isinstance(jwks, dict):
        raise _unusable("`jwks` must be a JWK Set")
    try:
        return check_keys(method, jwks)
    except AdministrationError as error:
        raise _unusable(f"`jwks` cannot be used: {_plain(error)}") from None


def _scopes(document: Mapping[str, Any], limits: Limits) -> tuple[str, ...]:
    text = document.get("scope")
    if text is None:
        return limits.scopes
    if not isinstance(text, str):
        raise _unusable("`scope` must be a string")
    scopes = tuple(dict.fromkeys(text.split()))
    if not set(scopes) <= set(limits.scopes):
        raise _unusable("a scope is unknown or not allowed here")
    return scopes


def _texts(document: Mapping[str, Any], name: str, default: Any) -> tuple[str, ...]:
    values = document.get(name, default)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise _unusable(f"`{name}` must be an array of strings")
    if len(values) != len(set(values)):
        raise _unusable(f"`{name}` names something twice")
    return tuple(values)


def _require_plain(name: str, value: Any) -> None:
    """People will read it: no control characters, none that turn text round (RFC 7591 §5). And not without end."""
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_ITEMS:
        raise _unusable(f"`{name}` has more than {MAX_ITEMS} values")
    if any(isinstance(item, str) and not item.isprintable() for item in values):
        raise _unusable(f"`{name}` holds characters that cannot be shown")


def _plain(error: AdministrationError) -> str:
    """Our sentence, which quotes the caller's own registration at most."""
    return str(error).replace('"', "'")


def _unusable(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description)


def _invalid_redirect() -> OAuthError:
    return OAuthError(
        "invalid_redirect_uri",
        "redirect URIs are https; http on 127.0.0.1 or [::1], or a scheme such as com.example.app:/cb, if native",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate name")
    return result


def _refuse(_: str) -> Any:
    raise ValueError("not a JSON number")
