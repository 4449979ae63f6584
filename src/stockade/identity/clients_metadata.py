"""What is registered about a client besides its name, keys and scopes: RFC 7591 §2, with a few words of our own.

Parsed once, at the edge: from the command line, from a registration request and from the database. A document that does
not parse is refused, so the rest of the server never meets a half-checked client.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

GrantType = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]
LOOPBACK = ("127.0.0.1", "[::1]")
MAX_URI_CHARS = 2_048
# RFC 3986 characters only: what a browser would rewrite, it must not be given.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?\[\]@!$&'()+,;=%]+")


def check_redirect_uri(value: str) -> str:
    """RFC 9700 §2.1, RFC 8252 §7: https, loopback http, or a private-use scheme with a dot; no wildcard."""
    parts = urlsplit(_plain_uri(value))
    if parts.scheme == "https":
        return value
    if parts.scheme == "http" and (f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname) in (
        *LOOPBACK,
        "localhost",
    ):
        return value
    if "." in parts.scheme and not parts.netloc:
        return value
    raise ValueError("must be https, http on a loopback address, or a private-use scheme such as com.example.app:/cb")


def _plain_uri(value: str) -> str:
    if len(value) > MAX_URI_CHARS or not _URI.fullmatch(value):
        raise ValueError("must be an absolute URI of plain characters, without fragment or wildcard")
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold user information")
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise ValueError("must name a host")
    _ = parts.port
    return value


def _page(value: str) -> str:
    if urlsplit(_plain_uri(value)).scheme != "https":
        raise ValueError("must be https")
    return value


RedirectUri = Annotated[str, AfterValidator(check_redirect_uri)]
PageUrl = Annotated[str, AfterValidator(_page)]
Words = Annotated[str, Field(min_length=1, max_length=256)]


class ClientMetadata(BaseModel):
    """Unknown members are refused here; registration drops them before (RFC 7591 §2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grant_types: tuple[GrantType, ...] = ("client_credentials",)
    redirect_uris: tuple[RedirectUri, ...] = ()
    post_logout_redirect_uris: tuple[RedirectUri, ...] = ()
    application_type: Literal["web", "native"] = "web"
    require_pushed_authorization_requests: bool = False
    dpop_bound_access_tokens: bool = False
    tls_client_certificate_bound_access_tokens: bool = False
    tls_client_auth_subject_dn: Words | None = None
    tls_client_auth_san_dns: Words | None = None
    tls_client_auth_san_uri: Words | None = None
    tls_client_auth_san_ip: Words | None = None
    tls_client_auth_san_email: Words | None = None
    id_token_signed_response_alg: Literal["ES256"] = "ES256"  # noqa: S105 - an algorithm
    default_max_age: int | None = Field(default=None, ge=0)
    default_acr_values: tuple[Words, ...] = ()
    require_auth_time: bool = False
    client_name: Words | None = None
    client_uri: PageUrl | None = None
    policy_uri: PageUrl | None = None
    tos_uri: PageUrl | None = None
    contacts: tuple[Words, ...] = ()
    software_id: Words | None = None
    software_version: Words | None = None
    # Ours. A first-party client shows no consent page.
    first_party: bool = False
    # Audiences whose tokens it may introspect, as their resource server (RFC 7662 §2.1).
    introspection_audiences: tuple[str, ...] = ()
    # Audiences towards which it may exchange tokens (RFC 8693).
    exchange_audiences: tuple[str, ...] = ()
    profile: Literal["", "fapi2"] = ""
    registered_by: Literal["admin", "dynamic"] = "admin"

    @property
    def must_bind(self) -> bool:
        """Whether bearer tokens are not for this client (RFC 9449 §5.2, RFC 8705 §3.4)."""
        return self.dpop_bound_access_tokens or self.tls_client_certificate_bound_access_tokens

    def allows_redirect(self, uri: str) -> bool:
        """Compare as strings (RFC 9700 §4.1.3); a native client's loopback port may differ (RFC 8252 §7.3)."""
        if uri in self.redirect_uris:
            return True
        if self.application_type != "native":
            return False
        wanted = _without_loopback_port(uri)
        return wanted is not None and any(wanted == _without_loopback_port(known) for known in self.redirect_uris)


def _without_loopback_port(uri: str) -> str | None:
    """`http://127.0.0.1:49152/cb` → `http://127.0.0.1/cb`; None for everything that is not such a URI."""
    match = _LOOPBACK_URI.fullmatch(uri)
    if match is None or int(match["port"] or 0) > 65_535:  # noqa: PLR2004 - the highest port
        return None
    return f"http://{match['host']}{match['rest']}"


_LOOPBACK_URI = re.compile(r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:[/?][^#]*)?)")
