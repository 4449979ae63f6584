"""The options that say what a client may do, and the registration that they come to."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography import x509

from stockade.errors import InputError
from stockade.identity.client_rules import DEVICE_CODE, TOKEN_EXCHANGE, certificate_jwk
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHORT_GRANTS = {"device_code": DEVICE_CODE, "token_exchange": TOKEN_EXCHANGE}
GRANTS = ("authorization_code", "refresh_token", "client_credentials", *SHORT_GRANTS)
_SUBJECTS = ("subject_dn", "san_dns", "san_uri", "san_ip", "san_email")


@dataclass(frozen=True, slots=True)
class Registration:
    """What the options asked for; None and absent members were not mentioned."""

    auth_method: str | None
    jwks: dict[str, Any] | None
    metadata: Mapping[str, Any]


def registration_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options. Passes `asked`, a Registration."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        mine = {name: options.pop(name) for name in _NAMES}
        return command(*args, asked=_registration(mine), **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _file(*names: str, text: str) -> Callable[..., Any]:
    return click.option(*names, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=text)


def _many(*names: str, metavar: str, text: str) -> Callable[..., Any]:
    return click.option(*names, multiple=True, metavar=metavar, help=f"{text}; repeatable.")


def _switch(name: str, text: str) -> Callable[..., Any]:
    return click.option(f"--{name}/--no-{name}", default=None, help=text)


_OPTIONS = (
    click.option(
        "--grant",
        "grants",
        multiple=True,
        type=click.Choice([*GRANTS, *SHORT_GRANTS.values()]),
        metavar="GRANT",
        help=f"{', '.join(GRANTS)}; repeatable. [default: client_credentials]",
    ),
    _many("--redirect-uri", "redirect_uris", metavar="URI", text="Where the browser may go back to"),
    _many("--post-logout-redirect-uri", "post_logout_redirect_uris", metavar="URI", text="The same after sign-out"),
    click.option(
        "--public", is_flag=True, help="It cannot keep a secret (a browser or mobile app): no authentication."
    ),
    click.option("--native", is_flag=True, help="An app on a device: public, any loopback port, schemes of its own."),
    click.option(
        "--auth-method",
        type=click.Choice([method.value for method in AuthMethod]),
        metavar="METHOD",
        help="How it proves itself; by default what the other options come to, or client_secret_basic.",
    ),
    _file("--jwks", text="Public keys: use private_key_jwt, no secret."),
    _file("--certificate", text="Its self-signed certificate, PEM: use self_signed_tls_client_auth."),
    click.option("--subject-dn", metavar="DN", help="Subject of its certificate (RFC 4514): use tls_client_auth."),
    click.option("--san-dns", metavar="NAME", help="Or the host name in its certificate."),
    click.option("--san-uri", metavar="URI", help="Or the URI in it."),
    click.option("--san-ip", metavar="ADDRESS", help="Or the address in it."),
    click.option("--san-email", metavar="ADDRESS", help="Or the e-mail address in it."),
    _switch("dpop-bound", "Its tokens are bound to a key (DPoP), always."),
    _switch("certificate-bound", "Its tokens are bound to its TLS certificate, always."),
    _switch("require-par", "It must push its authorization requests."),
    _switch("first-party", "People are not asked for consent."),
    _many("--introspect", "introspection_audiences", metavar="AUDIENCE", text="It may introspect tokens for this"),
    _many("--exchange", "exchange_audiences", metavar="AUDIENCE", text="It may exchange tokens towards this"),
    click.option(
        "--profile", type=click.Choice(["fapi2", "none"]), help="fapi2 demands what the FAPI 2.0 Security Profile does."
    ),
)
_NAMES = (
    "grants", "redirect_uris", "post_logout_redirect_uris", "public", "native", "auth_method", "jwks", "certificate",
    *_SUBJECTS, "dpop_bound", "certificate_bound", "require_par", "first_party", "introspection_audiences",
    "exchange_audiences", "profile",
)  # fmt: skip


def _registration(options: Mapping[str, Any]) -> Registration:
    if options["jwks"] and options["certificate"]:
        raise InputError("`--jwks` and `--certificate` are two ways to prove the client", hint="choose one")
    jwks = read_jwks(options["jwks"]) if options["jwks"] else None
    if options["certificate"]:
        jwks = {"keys": [certificate_jwk(_read_certificate(options["certificate"]))]}
    return Registration(_method(options), jwks, _metadata(options))


def _method(options: Mapping[str, Any]) -> str | None:
    """The method that the options come to. Two that speak against each other are an error."""
    implied = {
        AuthMethod.PRIVATE_KEY_JWT: "--jwks" if options["jwks"] else None,
        AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH: "--certificate" if options["certificate"] else None,
        AuthMethod.TLS_CLIENT_AUTH: next((_option(name) for name in _SUBJECTS if options[name]), None),
        AuthMethod.NONE: "--public" if options["public"] else None,
    }
    said = {method.value: option for method, option in implied.items() if option}
    if options["auth_method"]:
        said[options["auth_method"]] = f"--auth-method {options['auth_method']}"
    if len(said) > 1:
        first, second = list(said.values())[:2]
        raise InputError(f"`{first}` and `{second}` are two ways to prove the client", hint="choose one")
    return next(iter(said), AuthMethod.NONE.value if options["native"] else None)


def _metadata(options: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7591's members for what was mentioned."""
    found: dict[str, Any] = {
        "dpop_bound_access_tokens": options["dpop_bound"],
        "tls_client_certificate_bound_access_tokens": options["certificate_bound"],
        "require_pushed_authorization_requests": options["require_par"],
        "first_party": options["first_party"],
        **{f"tls_client_auth_{name}": options[name] for name in _SUBJECTS},
        "application_type": "native" if options["native"] else None,
        "grant_types": tuple(dict.fromkeys(SHORT_GRANTS.get(name, name) for name in options["grants"])) or None,
    }
    for name in ("redirect_uris", "post_logout_redirect_uris", "introspection_audiences", "exchange_audiences"):
        found[name] = tuple(dict.fromkeys(options[name])) or None
    if options["profile"]:
        found |= {"profile": "" if options["profile"] == "none" else options["profile"]}
    if options["profile"] == "fapi2":
        _keep_fapi(found, by_certificate=bool(options["certificate"] or any(options[name] for name in _SUBJECTS)))
    return {name: value for name, value in found.items() if value is not None}


def _keep_fapi(found: dict[str, Any], *, by_certificate: bool) -> None:
    """What the profile demands and nothing said otherwise."""
    if found["require_pushed_authorization_requests"] is None:
        found["require_pushed_authorization_requests"] = True
    bindings = ("dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens")
    if all(found[name] is None for name in bindings):
        found[bindings[by_certificate]] = True


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_jwks(path: Path) -> dict[str, Any]:
    """A JWK Set from a file. Raises InputError."""
    hint = 'a JWK Set (RFC 7517) of public keys: {"keys": [{"kty": …}]}'
    try:
        keys = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {(error.strerror or 'unknown').lower()}", hint=hint) from error
    except ValueError as error:
        raise InputError(f"`{path}` is not JSON", hint=hint) from error
    if not isinstance(keys, dict):
        raise InputError(f"`{path}` is not a JWK Set", hint=hint)
    return keys


def _read_certificate(path: Path) -> x509.Certificate:
    hint = "one certificate in PEM, the public half alone: -----BEGIN CERTIFICATE-----"
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {(error.strerror or 'unknown').lower()}", hint=hint) from error
    except ValueError as error:
        raise InputError(f"`{path}` holds no certificate", hint=hint) from error
    if len(found) != 1:
        raise InputError(f"`{path}` holds {len(found)} certificates", hint=hint)
    return found[0]
