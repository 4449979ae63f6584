"""The authorization server's configuration file, made from the policy and the scopes that the description names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.control.admin_gateway import admin_audience
from stockade.control.sockets import split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from stockade.control.state import StateFolder
    from stockade.policy import Policy
    from stockade.policy.model import MutualTls
    from stockade.spec.model import Description


# OpenID Connect Core §5.4, §11: not the API's, and known to every embedded server.
OPENID_SCOPES = ("openid", "profile", "email", "offline_access")
# What the administration API asks for (identity/admin_openapi.yaml).
ADMIN_SCOPE = "stockade:admin"
# Sections that read the same in both files.
SAME_NAMES = {"profile", "token_binding", "refresh", "par", "device", "registration", "sessions", "dpop"}


def scopes_of(description: Description) -> tuple[str, ...]:
    """Every scope that a scheme defines or an operation asks for, sorted."""
    defined = {scope for scheme in description.security_schemes.values() for scope in scheme.scopes}
    asked = {
        scope
        for operation in description.operations
        for alternative in operation.security or ()
        for requirement in alternative
        for scope in requirement.scopes
    }
    return tuple(sorted(defined | asked))


def scope_texts_of(description: Description) -> dict[str, str]:
    """What the schemes say that their scopes mean, for the consent page."""
    return {
        scope: text.strip()
        for scheme in description.security_schemes.values()
        for scope, text in sorted(scheme.scopes.items())
        if text.strip()
    }


def database_url(policy: Policy, state: StateFolder) -> str:
    """SQLAlchemy URL of the identity database."""
    return policy.identity.database_url or f"sqlite:///{state.identity / 'identity.db'}"


def identity_config(
    policy: Policy,
    state: StateFolder,
    *,
    scopes: Iterable[str],
    scope_texts: Mapping[str, str] | None = None,
    certificate: Path,
    key: Path,
    public_address: str,
    internal_address: str,
    admin_address: str,
) -> dict[str, Any]:
    """JSON object that `stockade.identity.config` reads."""
    external = policy.identity.external
    embedded = policy.identity.issuer == "embedded"
    config: dict[str, Any] = {
        "database_url": database_url(policy, state),
        "issuer": policy.issuer if embedded else f"https://{public_address}",
        "audiences": [policy.audience],
        "internal_audience": policy.audience,
        "scopes": list(dict.fromkeys([*scopes, *OPENID_SCOPES])) if embedded else list(scopes),
        "public": {"address": public_address, "certificate": str(certificate), "key": str(key)},
        "internal": {
            "address": internal_address,
            "certificate": str(state.internal / "server.pem"),
            "key": str(state.internal / "server.key"),
            "ca": str(state.internal / "ca.pem"),
        },
        "key_encryption_key": {"file": str(state.identity / "kek")},
        "lifetimes": {
            "access_token_seconds": policy.identity.access_token_lifetime_seconds,
            "code_seconds": policy.identity.code_seconds,
        },
        **policy.identity.model_dump(mode="json", include=SAME_NAMES),
        "people": policy.identity.people.model_dump() | {"scopes": dict(scope_texts or {})},
    }
    if embedded and policy.identity.mtls is not None:
        config["mtls"] = _mtls(policy.identity.mtls)
    if embedded and policy.identity.admin_api is not None:
        audience = admin_audience(split(policy.identity.admin_api.listen)[1])
        config["admin_api"] = {"address": admin_address, "audience": audience}
        config["audiences"].append(audience)
        config["scopes"].append(ADMIN_SCOPE)
    if not embedded:
        config["external"] = {
            "issuer": policy.identity.issuer,
            "audience": policy.audience,
            "algorithms": list(external.algorithms),
            "jwks_uri": external.jwks_uri,
            "ca": str(external.ca) if external.ca else None,
            "leeway_seconds": external.leeway_seconds,
        }
    return config


def _mtls(mtls: MutualTls) -> dict[str, Any]:
    ca = str(mtls.client_ca.absolute()) if mtls.client_ca else None
    return {"address": mtls.listen, "url": mtls.url, "ca": ca}
