"""Security requirements of the description → the credentials that Stockade asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stockade.compiler.errors import UnsupportedError
from stockade.errors import PolicyError
from stockade.policy import Policy
from stockade.spec.model import Description, Operation, Requirement, SecurityScheme

Alternatives = list[list[dict[str, Any]]]
DEFAULT_SCHEME = "stockade"


@dataclass(frozen=True, slots=True)
class Security:
    """`alternatives` as in the bundle; `notes`: kind and words of what the description said otherwise."""

    alternatives: Alternatives
    notes: tuple[tuple[str, str], ...]

    @property
    def is_public(self) -> bool:
        """Whether a request without credentials is let through."""
        return not self.alternatives or [] in self.alternatives


def check_scheme_names(description: Description, policy: Policy) -> None:
    """Refuse `identity.security_schemes` that the description does not know. Raises PolicyError."""
    for name, use in policy.identity.security_schemes.items():
        scheme = description.security_schemes.get(name)
        place = policy.locate("identity", "security_schemes", name)
        if scheme is None:
            known = ", ".join(f"`{each}`" for each in description.security_schemes) or "none"
            hint = f"the description declares {known}"
            raise PolicyError(f"unknown security scheme `{name}`", location=place, hint=hint)
        if use == "api_key" and scheme.kind != "apiKey":
            hint = "use `token` or `deny`"
            raise PolicyError(f"`{name}` does not say where an API key stands", location=place, hint=hint)


def read_security(description: Description, operation: Operation, policy: Policy) -> Security:
    """What proves identity for an operation. Raises UnsupportedError when nothing that the description offers can.

    An operation about which the description says nothing needs a token, without any scope: deny by default.
    """
    if operation.security is None:
        note = ("no_security", "the description has no `security`: a token is required, without any scope")
        return Security([[_token(DEFAULT_SCHEME, [])]], (note,))
    notes: dict[tuple[str, str], None] = {}
    alternatives: Alternatives = []
    for requirements in operation.security:
        alternative = _alternative(requirements, description, policy, notes, operation.node.pointer)
        if alternative is not None and alternative not in alternatives:
            alternatives.append(alternative)
    if operation.security and not alternatives:
        raise UnsupportedError(
            f"security that cannot be met: {'; '.join(words for _, words in notes)}", _pointer(operation)
        )
    if not alternatives or [] in alternatives:
        notes["public", "the description declares this operation public"] = None
    return Security(alternatives, tuple(notes))


def _pointer(operation: Operation) -> str:
    value = operation.node.value
    return f"{operation.node.pointer}/security" if isinstance(value, dict) and "security" in value else "/security"


def _alternative(
    requirements: tuple[Requirement, ...],
    description: Description,
    policy: Policy,
    notes: dict[tuple[str, str], None],
    pointer: str,
) -> list[dict[str, Any]] | None:
    """One alternative, or None when it cannot be had. Several tokens at once are one token with all their scopes."""
    token: dict[str, Any] | None = None
    others: list[dict[str, Any]] = []
    for requirement in requirements:
        scheme = description.security_schemes.get(requirement.scheme)
        if scheme is None:
            raise UnsupportedError(f"the undeclared security scheme `{requirement.scheme}`", f"{pointer}/security")
        use = _use(scheme, policy, notes)
        if use == "deny":
            return None
        if use == "token":
            scopes = {*requirement.scopes, *(token["scopes"] if token else ())}
            token = _token(token["scheme"] if token else scheme.name, sorted(scopes))
        elif use == "mutual_tls":
            others.append({"kind": "mutual_tls", "scheme": scheme.name})
        else:
            others.append(_api_key(scheme, requirement))
    return [*([token] if token else []), *others]


def _use(  # noqa: PLR0911 (a table)
    scheme: SecurityScheme, policy: Policy, notes: dict[tuple[str, str], None]
) -> str:
    """What a scheme becomes: token, api_key, mutual_tls or deny."""
    chosen = policy.identity.security_schemes.get(scheme.name)
    if chosen == "deny":
        notes["scheme_denied", f"the policy denies security scheme `{scheme.name}`"] = None
    if chosen is not None:
        return chosen
    if scheme.kind in ("oauth2", "openIdConnect"):
        return "token"
    if scheme.kind == "mutualTLS":
        if policy.listen.tls.client_ca is not None:
            return "mutual_tls"
        notes["scheme_denied", f"`{scheme.name}` needs client certificates: `listen.tls.client_ca` is not set"] = None
        return "deny"
    if scheme.kind == "http":
        if scheme.http_scheme != "bearer":
            words = f"Stockade's access token replaces http {scheme.http_scheme} (`{scheme.name}`)"
            notes["scheme_replaced", words] = None
        return "token"
    if scheme.place == "header" and (scheme.parameter_name or "").lower() == "authorization":
        # `Authorization: Bot …` and the like: the header has one owner, and a token in it is what Stockade checks.
        words = f"Stockade's access token replaces the API key in `Authorization` (`{scheme.name}`)"
        notes["scheme_replaced", words] = None
        return "token"
    if not scheme.parameter_name or scheme.place is None:
        notes["scheme_denied", f"`{scheme.name}` does not say where its key stands"] = None
        return "deny"
    return "api_key"


def _token(scheme: str, scopes: list[str]) -> dict[str, Any]:
    return {"kind": "token", "scheme": scheme, "scopes": scopes}


def _api_key(scheme: SecurityScheme, requirement: Requirement) -> dict[str, Any]:
    scopes = sorted(set(requirement.scopes))
    return {
        "kind": "api_key",
        "scheme": scheme.name,
        "in": scheme.place,
        "name": scheme.parameter_name,
        "scopes": scopes,
    }


def supported_scopes(description: Description, securities: list[Security]) -> list[str]:
    """All scopes that the description declares or asks for."""
    scopes = {scope for scheme in description.security_schemes.values() for scope in scheme.scopes}
    for security in securities:
        for alternative in security.alternatives:
            scopes.update(scope for requirement in alternative for scope in requirement.get("scopes", ()))
    return sorted(scopes)
