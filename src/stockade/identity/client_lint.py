"""What `stockade check` says of the registered clients: what they may do that a stricter registration would not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.findings import Check, Finding
from stockade.identity.client_rules import FAPI_METHODS
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from stockade.errors import Location
    from stockade.identity.admin import ListedClient

CHECKS: tuple[Check, ...] = (
    Check(
        "client-bearer",
        "A client may hold bearer tokens",
        "low",
        "bind them: `stockade client update NAME --dpop-bound`, or `identity.token_binding: required` for all",
        ("API2:2023", "CWE-294"),
    ),
    Check(
        "client-http-redirect",
        "Codes reach a client without TLS",
        "low",
        "use https, or --native where the application runs on the user's device",
        ("CWE-319",),
    ),
    Check(
        "client-outside-profile",
        "A client that the profile `fapi2` turns away",
        "medium",
        "prove it by a key or certificate and push its requests: `stockade client update NAME --profile fapi2 …`",
        ("API2:2023",),
    ),
    Check(
        "client-scope-unknown",
        "A client has a scope that the API does not declare",
        "low",
        "it is never given: correct it with `stockade client update NAME --scope …`",
    ),
)
_BY_ID = {check.id: check for check in CHECKS}


def lint_clients(
    clients: Sequence[ListedClient],
    scopes: Collection[str],
    *,
    profile: str,
    token_binding: str,
    location: Location | None,
) -> list[Finding]:
    """Findings on clients that are enabled. `scopes` are all that the server knows; `location` is the policy's."""
    return [
        _finding(check, f"client `{client.name}` {what}", location)
        for client in clients
        if client.disabled_at is None
        for check, what in _problems(client, scopes, profile, token_binding)
    ]


def _problems(
    client: ListedClient, scopes: Collection[str], profile: str, token_binding: str
) -> Iterator[tuple[str, str]]:
    metadata = client.metadata
    fapi = profile == "fapi2"
    bound = metadata.must_bind or token_binding == "required" or fapi  # noqa: S105 - a mode
    if metadata.grant_types and not bound:
        yield "client-bearer", "may hold bearer tokens: who has one can use it"
    for uri in metadata.redirect_uris:
        if uri.startswith("http:") and metadata.application_type != "native":
            yield "client-http-redirect", f"takes codes at `{uri}`"
    if fapi and metadata.grant_types:
        yield from (("client-outside-profile", why) for why in _outside_fapi(client))
    for scope in sorted(set(client.scopes) - set(scopes)):
        yield "client-scope-unknown", f"has the scope `{scope}`, which nothing declares"


def _outside_fapi(client: ListedClient) -> Iterator[str]:
    """FAPI 2.0 Security Profile §5.3.2.1."""
    if client.auth_method is AuthMethod.NONE:
        yield "is public, and the profile is for clients that prove who they are"
    elif client.auth_method not in FAPI_METHODS:
        yield f"uses `{client.auth_method.value}`"


def _finding(check: str, message: str, location: Location | None) -> Finding:
    found = _BY_ID[check]
    return Finding(found.id, found.severity, found.confidence, message, found.hint, location)
