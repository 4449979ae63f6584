"""How clients, scopes and places are named to people. Whatever a client chose itself is shown as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stockade.identity.interactions import DeviceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stockade.identity.interactions import AnyRequest
    from stockade.identity.pages.languages import Locale
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

# RFC 8707 and OIDC name these; every other scope is the API's own.
_STANDARD = ("openid", "profile", "email", "offline_access")


@dataclass(frozen=True, slots=True)
class ScopeText:
    """A scope in words; `fresh` where it goes beyond what was allowed before."""

    name: str
    text: str
    fresh: bool = False


def printable(text: str) -> str:
    """Without control characters and those that turn the direction of writing: they could hide what a name says."""
    return "".join(char for char in text if char.isprintable())


def client_name(client: ClientRecord) -> str:
    """What the client calls itself, else what the operator calls it."""
    return printable(client.metadata.client_name or "").strip() or printable(client.name)


def scope_texts(
    services: Services, locale: Locale, scopes: Iterable[str], before: Iterable[str] | None = None
) -> list[ScopeText]:
    """Each scope in words: ours translated, the API's as its description has them, else by name."""
    known = None if before is None else set(before)
    described = services.config.people.scopes
    texts = []
    for scope in scopes:
        if scope in _STANDARD:
            text = locale.text(f"scope.{scope}")
        else:
            text = described.get(scope) or locale.text("scope.other", scope=scope)
        texts.append(ScopeText(scope, text, bool(known) and known is not None and scope not in known))
    return texts


def destination(request: AnyRequest, locale: Locale) -> str:
    """Where the answer goes, so that a person can tell an impostor by the address (RFC 9700 §4.1.1)."""
    if isinstance(request, DeviceRequest):
        return ""
    parts = urlsplit(request.redirect_uri)
    if parts.scheme == "https":
        return parts.netloc
    return f"{locale.text('consent.this_device')} ({parts.netloc or parts.scheme})"


def unverified(client: ClientRecord) -> str:
    """Why a person should look twice: `dynamic`, `native`, or "" where the operator vouches (RFC 8252 §8.6)."""
    if client.metadata.registered_by == "dynamic":
        return "dynamic"
    if client.metadata.application_type == "native" and not client.confidential:
        return "native"
    return ""
