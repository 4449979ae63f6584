"""Reading an authorization request (RFC 6749 §4.1.1, OIDC Core §3.1.2.1), pushed or not.

In two parts: first who asks and where an answer may go, whose faults are shown to the person; then everything else,
whose faults are sent there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from stockade.identity import profile
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.grants.client_credentials import select_audience
from stockade.identity.interactions import AuthorizationRequest
from stockade.identity.people.assurance import ACRS
from stockade.identity.scopes import select_user_scopes
from stockade.identity.tokens.id_token import read_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockade.identity.config import Config
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

MAX_FIELDS = 64
MAX_CHARS = 4_096
PROMPTS = frozenset({"none", "login", "consent", "select_account"})
RESPONSE_MODES = ("query", "form_post")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_SECONDS = re.compile(r"[0-9]{1,9}")
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those that came once and not empty; the names of those that came more often."""

    values: Mapping[str, str]
    repeated: frozenset[str] = frozenset()

    def optional(self, name: str) -> str | None:
        """The value, or None when absent, empty or repeated."""
        return self.values.get(name)


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where an answer may go: registered for the client, so an error may go there too."""

    redirect_uri: str
    state: str | None
    response_mode: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of which the first part is checked. `pushed` is the digest (hex) of its `request_uri`."""

    client: ClientRecord
    address: ReturnAddress
    parameters: Parameters
    pushed: str | None = None
    dpop_jkt: str | None = None


def parse_parameters(text: str) -> Parameters:
    """Take a query apart. Raises `invalid_request` for what is no form, or too large."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise invalid_request("the query is not a well-formed form") from None
    if any("\x00" in name + value or len(value) > MAX_CHARS for name, value in pairs):
        raise invalid_request("a parameter is too long, or holds a null character")
    names = [name for name, _ in pairs]
    # RFC 6749 §3.1: parameters without a value count as absent, none may be repeated.
    repeated = frozenset(name for name in names if names.count(name) > 1)
    return Parameters({name: value for name, value in pairs if value and name not in repeated}, repeated)


def read_return_address(config: Config, client: ClientRecord, parameters: Parameters) -> ReturnAddress:
    """RFC 6749 §3.1.2.4, RFC 9700 §2.1: nothing is sent to a URI that is not registered, letter by letter.

    `redirect_uri` is always required (OIDC Core §3.1.2.1). Raises `invalid_request`, to be shown and not sent.
    """
    uri = parameters.optional("redirect_uri")
    if uri is None:
        raise invalid_request("`redirect_uri` is missing or repeated")
    if not client.metadata.allows_redirect(uri) or not profile.allows_redirect(config, client, uri):
        raise invalid_request("`redirect_uri` is not registered for this client")
    mode, state = parameters.optional("response_mode"), parameters.optional("state")
    if state is not None and len(state) > MAX_CHARS:
        raise invalid_request("`state` is too long")
    return ReturnAddress(uri, state, mode if mode in RESPONSE_MODES else RESPONSE_MODES[0])


def read_request(services: Services, asked: Asked) -> AuthorizationRequest:
    """Check the second part. Raises OAuthError, which may be sent to `asked.address`."""
    config, client, parameters = services.config, asked.client, asked.parameters
    _require_understood(config, asked)
    claims = _IdTokenClaims.read(parameters.optional("claims"))
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=asked.address.redirect_uri,
        scopes=select_user_scopes(config, client, parameters.optional("scope")),
        audience=select_audience(config, parameters.optional("resource")),
        code_challenge=_code_challenge(parameters),
        state=asked.address.state,
        nonce=parameters.optional("nonce"),
        response_mode=asked.address.response_mode,
        prompt=_prompt(parameters),
        max_age=_max_age(client, parameters),
        acr_values=claims.acr_values or _acr_values(client, parameters),
        login_hint=parameters.optional("login_hint"),
        ui_locales=_languages(parameters),
        dpop_jkt=_dpop_jkt(asked),
        pushed=asked.pushed,
        subject=_subject(services, asked, claims),
    )


def _require_understood(config: Config, asked: Asked) -> None:
    client, parameters = asked.client, asked.parameters
    if parameters.repeated:
        raise invalid_request("a parameter is repeated")
    # RFC 9101 and OIDC Core §6, §7.2.1: told apart, so that a client learns what to leave out.
    if parameters.optional("request") is not None:
        raise OAuthError("request_not_supported", "request objects are not supported")
    if parameters.optional("registration") is not None:
        raise OAuthError("registration_not_supported", "registration in a request is not supported")
    if parameters.optional("response_type") is None:
        raise invalid_request("`response_type` is missing")
    if parameters.optional("response_type") != "code":
        raise OAuthError("unsupported_response_type", "only `code` is supported")
    if parameters.optional("response_mode") not in (None, *RESPONSE_MODES):
        raise invalid_request("`response_mode` must be `query` or `form_post`")
    if "authorization_code" not in client.metadata.grant_types or not profile.allows_client(config, client):
        raise OAuthError("unauthorized_client", "this client may not ask for a code")
    if asked.pushed is None and profile.requires_pushed_requests(config, client):
        # RFC 9126 §5, §6
        raise invalid_request("requests of this client must be pushed")


def _code_challenge(parameters: Parameters) -> str:
    """RFC 9700 §2.1.1: PKCE for every client; RFC 7636 §4.3: without a method it would be `plain`, which is refused."""
    challenge = parameters.optional("code_challenge")
    if challenge is None or not _CHALLENGE.fullmatch(challenge):
        raise invalid_request("`code_challenge` must be 43 characters of base64url")
    if parameters.optional("code_challenge_method") != "S256":
        raise invalid_request("`code_challenge_method` must be `S256`")
    return challenge


def _prompt(parameters: Parameters) -> frozenset[str]:
    """OIDC Core §3.1.2.1: `none` stands alone."""
    prompt = frozenset((parameters.optional("prompt") or "").split())
    if not prompt <= PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise invalid_request("`prompt` is unknown, or `none` beside another")
    return prompt


def _max_age(client: ClientRecord, parameters: Parameters) -> int | None:
    text = parameters.optional("max_age")
    if text is None:
        return client.metadata.default_max_age
    if not _SECONDS.fullmatch(text):
        raise invalid_request("`max_age` must be a number of seconds")
    return int(text)


def _acr_values(client: ClientRecord, parameters: Parameters) -> tuple[str, ...]:
    """OIDC Core §3.1.2.1: voluntary, so values that we do not know are passed over."""
    text = parameters.optional("acr_values")
    wanted = client.metadata.default_acr_values if text is None else text.split()
    return tuple(acr for acr in wanted if acr in ACRS)


def _languages(parameters: Parameters) -> tuple[str, ...]:
    tags = (parameters.optional("ui_locales") or "").split()
    return tuple(tag for tag in tags if _LANGUAGE.fullmatch(tag))[:16]


def _dpop_jkt(asked: Asked) -> str | None:
    """RFC 9449 §10 and §10.1: a proof that came with the pushed request says the same."""
    jkt = asked.parameters.optional("dpop_jkt")
    if jkt is not None and (not _CHALLENGE.fullmatch(jkt) or asked.dpop_jkt not in (None, jkt)):
        raise invalid_request("`dpop_jkt` is malformed, or not the key of the DPoP proof")
    return jkt or asked.dpop_jkt


def _subject(services: Services, asked: Asked, claims: _IdTokenClaims) -> str | None:
    """Who it must be (OIDC Core §3.1.2.1 `id_token_hint`, §5.5.1 `sub`)."""
    text = asked.parameters.optional("id_token_hint")
    if text is None:
        return claims.subject
    hint = read_hint(services, text)
    if hint is None or hint.client_id != asked.client.client_id or claims.subject not in (None, hint.subject):
        raise invalid_request("`id_token_hint` was not issued to this client, or contradicts `claims`")
    return hint.subject


@dataclass(frozen=True, slots=True)
class _IdTokenClaims:
    """What of the `claims` parameter (OIDC Core §5.5) is acted on: `acr` where essential, and a certain `sub`.

    Other claims are voluntary for us, and `auth_time` is in every ID token.
    """

    acr_values: tuple[str, ...] = ()
    subject: str | None = None

    @staticmethod
    def read(text: str | None) -> _IdTokenClaims:
        """OIDC Core §5.5.1.1: an essential `acr` that cannot be had is an error. Raises OAuthError."""
        if text is None:
            return _IdTokenClaims()
        wanted = _member(_json_object(text), "id_token")
        acr, sub = _member(wanted, "acr"), _member(wanted, "sub")
        subject = sub.get("value")
        if not isinstance(subject, str | None):
            raise _malformed_claims()
        return _IdTokenClaims(_essential_acr(acr), subject)


def _malformed_claims() -> OAuthError:
    return invalid_request("`claims` is malformed")


def _essential_acr(acr: Mapping[str, Any]) -> tuple[str, ...]:
    values = acr.get("values", [acr["value"]] if "value" in acr else [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _malformed_claims()
    known = tuple(value for value in values if value in ACRS)
    if acr.get("essential") is True and values and not known:
        raise OAuthError("unmet_authentication_requirements", "the requested `acr` cannot be had here")
    return known


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed_claims() from None
    if not isinstance(value, dict):
        raise _malformed_claims()
    return value


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; null and absent are both "as you like"."""
    member = value.get(name) or {}
    if not isinstance(member, dict):
        raise _malformed_claims()
    return member
