"""The configuration file of the authorization server: JSON, written by the supervisor, read once and on SIGHUP.

Relative paths are relative to the file. Unknown fields are refused. No secret stands in it, only where secrets are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stockade.errors import InputError, Location

Algorithm = Literal["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "PS384", "RS256", "RS384"]


def _https_identifier(value: str) -> str:
    """RFC 8414 §2: an issuer is an https URL without query or fragment."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or value.endswith("/"):
        raise ValueError("must be an https URL without query, fragment or trailing slash")
    return value


def _https_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https URL")
    return value


def scope_token(value: str) -> str:
    """Check one scope; RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`."""
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", value):
        raise ValueError("must be visible ASCII without space, quote or backslash")
    return value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise ValueError("must be host:port")
    return value


IssuerUrl = Annotated[str, AfterValidator(_https_identifier)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
Scope = Annotated[str, AfterValidator(scope_token)]
Address = Annotated[str, AfterValidator(_address)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublicListener(_Model):
    """Where clients ask for tokens: TLS 1.2 and 1.3."""

    address: Address = "127.0.0.1:8444"
    certificate: Path
    key: Path


class InternalListener(_Model):
    """Where the gateway asks: TLS 1.3, only for a client certificate of `ca` with the name `stockade-gateway`."""

    address: Address = "127.0.0.1:8445"
    certificate: Path
    key: Path
    ca: Path


class KeyEncryptionKey(_Model):
    """Where the key that opens the signing keys is: a file of mode 0600, or an environment variable. 64 hex digits."""

    file: Path | None = None
    environment: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> KeyEncryptionKey:
        if (self.file is None) == (self.environment is None):
            raise ValueError("give either `file` or `environment`")
        return self


class MutualTlsListener(_Model):
    """Where clients prove themselves by certificate (RFC 8705 §5); certificate and key are the public listener's.

    `ca`: whose certificates `tls_client_auth` believes. Self-signed certificates are those that clients registered.
    """

    address: Address
    # What metadata says in `mtls_endpoint_aliases`; by default the issuer's host and this port.
    url: HttpsUrl | None = None
    ca: Path | None = None


class Dpop(_Model):
    """RFC 9449 at the authorization server."""

    nonce: bool = True
    max_age_seconds: int = Field(default=60, ge=5, le=300)


class Refresh(_Model):
    """Refresh tokens. Rotation is off in the profile `fapi2`, whatever stands here (FAPI 2.0 §5.3.2.1)."""

    rotation: bool = True
    # How long a used one still gets the answer that it got before.
    grace_seconds: int = Field(default=10, ge=0, le=60)
    seconds: int = Field(default=30 * 86_400, ge=60)
    idle_seconds: int = Field(default=14 * 86_400, ge=60)


class PushedRequests(_Model):
    """RFC 9126."""

    required: bool = False
    seconds: int = Field(default=90, ge=5, le=599)


class DeviceGrant(_Model):
    """RFC 8628."""

    seconds: int = Field(default=600, ge=30, le=1_800)
    interval_seconds: int = Field(default=5, ge=1, le=60)


class Sessions(_Model):
    """Browsers in which a user signed in."""

    idle_seconds: int = Field(default=8 * 3_600, ge=60)
    seconds: int = Field(default=30 * 86_400, ge=60)


class People(_Model):
    """What the pages say, and in which language where the browser asks for none that is there."""

    title: str = Field(default="Stockade", min_length=1, max_length=64)
    locale: str = "en"
    # What scopes mean, as the API's description says it; the consent page falls back on their names.
    scopes: dict[Scope, str] = {}


class AdminApi(_Model):
    """The administration API: plain HTTP on loopback, meant to stand behind a gate of its own.

    `audience`: that gate's, by default the issuer and `/admin`. Tokens for it carry it (RFC 8707), and so do the
    internal tokens that the API believes, so that no other upstream can pass one on. It belongs in `audiences` too.
    """

    address: Address
    audience: str | None = None


class Lifetimes(_Model):
    """How long things hold, in seconds."""

    access_token_seconds: int = Field(default=600, ge=10, le=86_400)
    internal_token_seconds: int = Field(default=120, ge=5, le=120)
    operation_token_seconds: int = Field(default=10, ge=2, le=60)
    # RFC 6749 §4.1.2 and FAPI 2.0: a minute at most.
    code_seconds: int = Field(default=60, ge=5, le=60)
    id_token_seconds: int = Field(default=600, ge=10, le=3_600)
    signing_key_seconds: int = Field(default=30 * 86_400, ge=3_600)
    # A retired key stays in the JWKS until every token it signed is dead and every reader has fetched the next set.
    signing_key_overlap_seconds: int = Field(default=86_400, ge=600)
    # Longer than any gateway keeps a verified credential; one that missed more starts over with an empty cache.
    revocation_log_seconds: int = Field(default=86_400, ge=3_600)


class ExternalIssuer(_Model):
    """An outside issuer of JWT access tokens that stands in place of the embedded one."""

    issuer: HttpsUrl
    audience: str
    algorithms: tuple[Algorithm, ...] = ("ES256", "PS256", "EdDSA", "Ed25519", "RS256")
    ca: Path | None = None
    jwks_uri: HttpsUrl | None = None
    # How far the issuer's clock may be ahead of ours, for `nbf` and `iat`.
    leeway_seconds: int = Field(default=5, ge=0, le=60)
    keys_max_age_seconds: int = Field(default=600, ge=30)

    @model_validator(mode="after")
    def _some_algorithm(self) -> ExternalIssuer:
        if not self.algorithms:
            raise ValueError("`algorithms` must not be empty")
        return self


class Connections(_Model):
    """What one caller may take of the listeners."""

    max_connections: int = Field(default=1_000, ge=1)
    max_per_address: int = Field(default=256, ge=1)
    handshake_timeout_seconds: float = Field(default=5, gt=0)
    head_timeout_seconds: float = Field(default=10, gt=0)
    body_timeout_seconds: float = Field(default=10, gt=0)
    idle_timeout_seconds: int = Field(default=30, ge=1)


class PeopleThrottling(_Model):
    """How many sign-ins may fail: a burst, then one in so many seconds.

    By name and network, by network, by name for browsers that the person never used, by such a browser, and codes of
    the second factor by person. NIST SP 800-63B §5.2.2: at most 100 failures in a row on one account.
    """

    pair_burst: int = Field(default=5, ge=1)
    pair_seconds_each: float = Field(default=30, gt=0)
    network_burst: int = Field(default=50, ge=1)
    network_seconds_each: float = Field(default=5, gt=0)
    name_burst: int = Field(default=100, ge=1)
    name_seconds_each: float = Field(default=60, gt=0)
    device_burst: int = Field(default=10, ge=1)
    device_seconds_each: float = Field(default=30, gt=0)
    code_burst: int = Field(default=5, ge=1)
    code_seconds_each: float = Field(default=300, gt=0)


class Throttling(_Model):
    """How many client authentications may fail: a burst, then one in so many seconds."""

    client_burst: int = Field(default=10, ge=1)
    client_seconds_each: float = Field(default=6, gt=0)
    address_burst: int = Field(default=100, ge=1)
    address_seconds_each: float = Field(default=0.5, gt=0)
    people: PeopleThrottling = PeopleThrottling()


class Log(_Model):
    """JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Model):
    """All of it. `audiences[0]` is what a token request without `resource` gets."""

    database_url: str
    issuer: IssuerUrl
    audiences: tuple[str, ...] = Field(min_length=1)
    internal_audience: str
    scopes: tuple[Scope, ...] = ()
    public: PublicListener
    internal: InternalListener
    key_encryption_key: KeyEncryptionKey
    lifetimes: Lifetimes = Lifetimes()
    external: ExternalIssuer | None = None
    profile: Literal["oauth21", "fapi2"] = "oauth21"
    # `required`: no bearer tokens at all. `optional`: bound where the client proves a key or registered to.
    token_binding: Literal["optional", "required"] = "optional"  # noqa: S105 - a mode
    mtls: MutualTlsListener | None = None
    dpop: Dpop = Dpop()
    refresh: Refresh = Refresh()
    par: PushedRequests = PushedRequests()
    device: DeviceGrant = DeviceGrant()
    registration: Literal["off", "initial_access_token"] = "off"
    sessions: Sessions = Sessions()
    people: People = People()
    admin_api: AdminApi | None = None
    connections: Connections = Connections()
    throttling: Throttling = Throttling()
    log: Log = Log()
    drain_seconds: int = Field(default=10, ge=0)

    @property
    def base_path(self) -> str:
        """Path of the issuer URL, "" for most: every endpoint stands under it."""
        return urlsplit(self.issuer).path

    @property
    def admin_audience(self) -> str | None:
        """`aud` of the administration API; None where there is none."""
        if self.admin_api is None:
            return None
        return self.admin_api.audience or f"{self.issuer}/admin"

    @property
    def token_endpoint(self) -> str:
        """Absolute URL; also an accepted `aud` of client assertions (RFC 7523 §3)."""
        return f"{self.issuer}/oauth2/token"


def read_config(path: Path) -> Config:
    """Read and check the file. Raises InputError that names the field, never a secret."""
    try:
        config = Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read the configuration: {(error.strerror or 'unknown').lower()}", location=Location(str(path))
        ) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise InputError(first["msg"].lower(), location=Location(str(path), pointer=pointer)) from error
    return _resolve(config, path.resolve().parent)


def _resolve(config: Config, folder: Path) -> Config:
    """Make every relative path absolute, seen from the file's folder."""
    external = config.external
    kek = config.key_encryption_key
    mtls = config.mtls
    return config.model_copy(
        update={
            "mtls": mtls.model_copy(update={"ca": folder / mtls.ca}) if mtls and mtls.ca else mtls,
            "database_url": _resolve_database(config.database_url, folder),
            "public": config.public.model_copy(
                update={name: folder / getattr(config.public, name) for name in ("certificate", "key")}
            ),
            "internal": config.internal.model_copy(
                update={name: folder / getattr(config.internal, name) for name in ("certificate", "key", "ca")}
            ),
            "key_encryption_key": kek.model_copy(update={"file": folder / kek.file}) if kek.file else kek,
            "external": external.model_copy(update={"ca": folder / external.ca})
            if external and external.ca
            else external,
        }
    )


def _resolve_database(url: str, folder: Path) -> str:
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or path.startswith("/") or not path:
        return url
    return f"sqlite:///{folder / path}"
