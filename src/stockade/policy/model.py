"""`stockade.yaml` as frozen types. Field descriptions are the reference: `docs/configuration.md` is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from stockade.errors import Location
from stockade.policy.fields import (
    Address,
    Count,
    Endpoint,
    FilePath,
    HostName,
    HttpsUrl,
    Items,
    Milliseconds,
    Mode,
    Model,
    Network,
    Origin,
    Quota,
    Seconds,
    Size,
    Strictness,
    check_https,
    split_address,
)
from stockade.policy.positions import Tree

Algorithm = Literal["ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
SchemeUse = Literal["token", "api_key", "deny"]
EMBEDDED_ACR = ("pwd", "mfa", "phr")
DEFAULT_PORTS = {"http": 80, "https": 443}


class UpstreamTls(Model):
    """TLS towards the upstream, for `https` endpoints."""

    ca: FilePath | None = Field(default=None, description="PEM file of the CAs to trust; the system's where not given")
    certificate: FilePath | None = Field(default=None, description="PEM file of Stockade's client certificate")
    key: FilePath | None = Field(default=None, description="PEM file of its key")
    server_name: str | None = Field(
        default=None, description="name to expect in the certificate; the endpoint's host by default"
    )

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` go together")
        return self


class Upstream(Model):
    """The API behind the gate: one URL, a list of URLs, or this object."""

    endpoints: Annotated[Items[Endpoint], Field(min_length=1)] = Field(
        description="`http://host:port` or `https://…`, with at most a path in front of every request's own"
    )
    tls: UpstreamTls = Field(default=UpstreamTls(), description="certificates towards the upstream")
    protocol: Literal["http1", "http2"] = Field(default="http1", description="HTTP version towards the upstream")
    preserve_host: bool = Field(default=False, description="send the client's `Host` instead of the endpoint's")
    connect_timeout_ms: Milliseconds = Field(default=2000, description="time to connect")
    response_timeout_ms: Milliseconds = Field(default=30000, description="time until the answer's head")
    idle_timeout_ms: Milliseconds = Field(
        default=15000, description="idle connections are closed; keep it below the upstream's"
    )
    max_age_seconds: Seconds = Field(default=600, description="a connection's longest life")
    max_connections: Count = Field(default=256, description="connections to each endpoint")
    max_waiting: Count = Field(default=1024, description="requests that may wait for a connection")
    wait_timeout_ms: Milliseconds = Field(default=1000, description="time a request waits for a connection")
    eject_after_failures: Count = Field(default=5, description="consecutive failures that take an endpoint out")
    eject_seconds: Seconds = Field(default=10, description="how long it stays out")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"endpoints": data} if isinstance(data, (str, list, tuple)) else data


class Api(Model):
    """What is protected."""

    description: FilePath = Field(description="the OpenAPI 3.0 or 3.1 file, YAML or JSON")
    upstream: Upstream = Field(description="where the API runs")
    overlay: Items[FilePath] = Field(default=(), description="OpenAPI Overlay 1.0 files, applied in order")
    base_path: str | None = Field(
        default=None,
        description="path in front of every path template; by default that of `servers`; `none`: nothing in front",
    )
    hosts: Items[HostName] = Field(default=(), description="host names that clients may use; empty: any")
    remote_references: Mapping[str, FilePath] = Field(
        default={},
        description="URLs that `$ref` may name, each with the local copy to read (a folder where it ends in `/`)",
    )
    reference_folders: Items[FilePath] = Field(
        default=(), description="folders besides the description's own that `$ref` may name"
    )

    @property
    def overlays(self) -> tuple[Path, ...]:
        """The overlay files, in the order in which they apply."""
        return self.overlay

    @field_validator("base_path")
    @classmethod
    def _normalise_base_path(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value in ("none", "/", ""):
            return ""
        if not value.startswith("/") or any(part in ("", ".", "..") for part in value.rstrip("/")[1:].split("/")):
            raise ValueError(f"`{value}` is not a base path; write it as `/v1`, or `none`")
        if any(character in value for character in "?#{}%;\\") or not value.isprintable():
            raise ValueError(f"`{value}` is not a base path: it holds a character that has a meaning in URLs")
        return value.rstrip("/")


class Tls(Model):
    """TLS towards clients."""

    mode: Literal["auto", "files", "off"] = Field(
        default="auto",
        description="`auto`: a development CA, made once; `files`: `certificate` and `key`; `off`: clear text",
    )
    certificate: FilePath | None = Field(default=None, description="PEM file, leaf first")
    key: FilePath | None = Field(default=None, description="PEM file of its private key")
    client_ca: FilePath | None = Field(
        default=None, description="PEM file of the CAs whose client certificates are accepted"
    )
    client_certificate: Literal["none", "optional", "required", "any"] = Field(
        default="none",
        description="whether clients show a certificate; `required` by default where `client_ca` is given; "
        "`any`: of whatever CA, to bind tokens to (RFC 8705), which meets no `mutualTLS` requirement",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        filled = dict(data)
        if "certificate" in data:
            filled.setdefault("mode", "files")
        if data.get("client_ca") is not None:
            filled.setdefault("client_certificate", "required")
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "files" and (self.certificate is None or self.key is None):
            raise ValueError("mode `files` needs `certificate` and `key`")
        if self.mode != "files" and (self.certificate is not None or self.key is not None):
            raise ValueError(f"`certificate` and `key` have no effect in mode `{self.mode}`")
        if self.client_certificate in ("optional", "required") and self.client_ca is None:
            raise ValueError("`client_certificate` needs `client_ca`")
        if self.client_certificate in ("none", "any") and self.client_ca is not None:
            raise ValueError(f"`client_ca` has no effect with `client_certificate: {self.client_certificate}`")
        if self.mode == "off" and self.client_certificate != "none":
            raise ValueError("client certificates need TLS")
        return self


class Connections(Model):
    """Bounds on what one client, and all of them, can hold."""

    max: Count = Field(default=10000, description="connections in all")
    max_per_address: Count = Field(default=1000, description="connections of one address")
    handshake_timeout_ms: Milliseconds = Field(default=5000, description="time for the TLS handshake")
    header_timeout_ms: Milliseconds = Field(default=10000, description="time for the whole header block")
    idle_timeout_ms: Milliseconds = Field(default=60000, description="time without a request")
    max_age_seconds: Seconds = Field(default=3600, description="a connection's longest life")
    body_min_bytes_per_second: Count = Field(default=512, description="slower bodies are cut off")
    body_grace_seconds: Seconds = Field(default=5, description="before that rate is asked for")
    write_timeout_ms: Milliseconds = Field(default=20000, description="time a client may not read for")
    max_header_bytes: Size = Field(default=32768, description="size of the header block")
    max_headers: Count = Field(default=100, description="number of headers")
    max_streams: Count = Field(default=100, description="HTTP/2 streams of one connection")
    max_in_flight: Count = Field(default=4096, description="requests at a time; more get 503")
    max_buffered_bytes: Size = Field(default=268435456, description="memory for bodies that await a verdict")


class Listen(Model):
    """Where clients come in."""

    address: Address = Field(
        default="127.0.0.1:8443", description="address and port; `0.0.0.0:8443` opens it to the network"
    )
    tls: Tls = Field(default=Tls(), description="certificates towards clients")
    proxy_protocol: bool = Field(default=False, description="expect a PROXY protocol header from trusted proxies")
    trusted_proxies: Items[Network] = Field(
        default=(), description="networks whose word on the client's address is believed; by default none"
    )
    connections: Connections = Field(default=Connections(), description="bounds on connections")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="by default one for each core"
    )
    drain_seconds: Seconds = Field(default=20, description="time for requests in flight when stopping")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("`proxy_protocol` needs `trusted_proxies`")
        return self


class External(Model):
    """How tokens of an external issuer are checked."""

    jwks_uri: HttpsUrl | None = Field(default=None, description="by default what the issuer's metadata says")
    ca: FilePath | None = Field(default=None, description="PEM file of the CAs to trust; the system's where not given")
    algorithms: Annotated[Items[Algorithm], Field(min_length=1)] = Field(
        default=("ES256", "EdDSA", "PS256", "RS256"), description="signature algorithms that are accepted, and no other"
    )
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        default=10, description="clock difference that is tolerated"
    )
    acr_order: Items[str] = Field(
        default=(), description="its `acr` values, weakest first: a stronger one does where a weaker one is asked for"
    )


class Dpop(Model):
    """Proofs of possession (RFC 9449), at the gate and at the embedded server."""

    nonce: bool = Field(
        default=True, description="ask for a nonce of ours in each proof; without it, a restart forgets what was used"
    )
    max_age_seconds: Annotated[int, Field(ge=5, le=300)] = Field(
        default=60, description="how far a proof's `iat` may lie off"
    )


class Refresh(Model):
    """Refresh tokens. The profile `fapi2` never rotates them: they are bound to a key or their client proves itself."""

    rotation: bool = Field(default=True, description="each use gives a new one, and a second use of one revokes all")
    grace_seconds: Annotated[int, Field(ge=0, le=60)] = Field(
        default=10, description="how long a used one gets the same answer again (two tabs, a lost answer)"
    )
    seconds: Seconds = Field(default=30 * 86400, ge=60, description="life of a sign-in that refreshes")
    idle_seconds: Seconds = Field(default=14 * 86400, ge=60, description="life of one that nobody uses")


class PushedRequests(Model):
    """Pushed authorization requests (RFC 9126)."""

    required: bool = Field(default=False, description="take no others; always so in the profile `fapi2`")
    seconds: Annotated[int, Field(ge=5, le=599)] = Field(default=90, description="life of a pushed request")


class Device(Model):
    """The device grant (RFC 8628): sign-in on another device, by a code."""

    seconds: Annotated[int, Field(ge=30, le=1800)] = Field(default=600, description="life of a code")
    interval_seconds: Annotated[int, Field(ge=1, le=60)] = Field(default=5, description="how often a device may ask")


class Sessions(Model):
    """Browsers in which a user signed in."""

    idle_seconds: Seconds = Field(default=8 * 3600, ge=60, description="sign in again after so long without a sign")
    seconds: Seconds = Field(default=30 * 86400, ge=60, description="sign in again after so long in any case")


class People(Model):
    """The pages on which people sign in."""

    title: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="Stockade", description="what the pages call this place"
    )
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = Field(
        default="en", description="language where the browser asks for none that is there"
    )


class MutualTls(Model):
    """A second address of the embedded server, where clients show certificates (RFC 8705)."""

    listen: Address = Field(description="address and port")
    client_ca: FilePath | None = Field(
        default=None, description="PEM file of the CAs for `tls_client_auth`; self-signed ones need none"
    )
    url: HttpsUrl | None = Field(
        default=None, description="its public URL; by default the issuer's host and the port of `listen`"
    )


class AdminApi(Model):
    """The administration API, behind a gateway of its own that is compiled from its own description."""

    listen: Address = Field(description="address and port of that gateway")


class Identity(Model):
    """Who vouches for clients."""

    issuer: Annotated[str, AfterValidator(lambda text: text if text == "embedded" else check_https(text))] = Field(
        default="embedded", description="`embedded`, or the https URL of an OpenID provider"
    )
    issuer_url: HttpsUrl | None = Field(
        default=None,
        description="the embedded server's public URL; by default `https://localhost:` and the port of `listen`",
    )
    listen: Address = Field(
        default="127.0.0.1:8444", description="where the embedded server serves tokens, sign-in and its metadata"
    )
    audience: str | None = Field(
        default=None, description="what `aud` must contain; by default `https://localhost:` and the gate's port"
    )
    access_token_lifetime_seconds: Annotated[int, Field(ge=10, le=86400)] = Field(
        default=600, description="life of an access token"
    )
    profile: Literal["oauth21", "fapi2"] = Field(
        default="oauth21", description="`fapi2` demands what the FAPI 2.0 Security Profile demands"
    )
    token_binding: Literal["optional", "required"] = Field(
        default="optional", description="`required`: no bearer tokens, each is bound to a key or certificate"
    )
    refresh: Refresh = Field(default=Refresh(), description="refresh tokens")
    code_seconds: Annotated[int, Field(ge=5, le=60)] = Field(default=60, description="life of an authorization code")
    par: PushedRequests = Field(default=PushedRequests(), description="pushed authorization requests")
    device: Device = Field(default=Device(), description="sign-in on another device")
    registration: Literal["off", "initial_access_token"] = Field(
        default="off", description="dynamic client registration, `off` or for holders of an initial access token"
    )
    sessions: Sessions = Field(default=Sessions(), description="how long people stay signed in")
    people: People = Field(default=People(), description="the pages for people")
    mtls: MutualTls | None = Field(default=None, description="where clients show certificates")
    admin_api: AdminApi | None = Field(default=None, description="the administration API")
    external: External = Field(default=External(), description="checks on an external issuer's tokens")
    security_schemes: Mapping[str, SchemeUse] = Field(
        default={}, description="by name of the description's security scheme: `token`, `api_key` or `deny`"
    )
    cache_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=60, description="a verified credential is not asked again"
    )
    stale_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=10, description="silence of the revocation feed after which no cached credential counts"
    )
    dpop: Dpop = Field(default=Dpop(), description="proofs that a token's key is at hand")
    internal_token: Literal["shared", "operation"] = Field(
        default="shared",
        description="`shared`: the upstream's token is for all operations; `operation`: for one, and for seconds",
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="SQLAlchemy URL of the identity database; by default SQLite in the state folder",
    )


class Sizes(Model):
    """What is too large. Bytes may be written as `1 MiB`."""

    max_target_bytes: Size = Field(default=8192, description="path and query")
    max_body_bytes: Size = Field(default=1048576, description="request body")
    max_response_bytes: Size = Field(default=8388608, description="response body that is validated")
    max_json_depth: Annotated[int, Field(ge=1, le=512)] = Field(default=64, description="nesting of JSON")
    max_json_nodes: Count = Field(default=100000, description="values in a JSON document")
    max_json_string_bytes: Size = Field(default=1048576, description="one JSON string")
    max_number_chars: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64, description="digits and signs of one number"
    )
    max_parameters: Count = Field(default=200, description="query parameters, cookies or form fields")
    max_multipart_parts: Count = Field(default=100, description="parts of a multipart body")


class Limits(Model):
    """Rates and sizes. `null` switches a rate limit off."""

    per_address: Quota | None = Field(
        default=Quota(requests=600, period_seconds=60, burst=600), description="by address, before authentication"
    )
    per_client: Quota | None = Field(
        default=Quota(requests=300, period_seconds=60, burst=300), description="by client, after authentication"
    )
    max_tracked_keys: Annotated[int, Field(ge=1000, le=100_000_000)] = Field(
        default=1000000, description="addresses and clients that are counted at a time; bounds the memory"
    )
    sizes: Sizes = Field(default=Sizes(), description="bounds on requests and responses")


class Layers(Model):
    """`enforce` refuses, `observe` only records what it would refuse, `off` does not look."""

    authenticate: Mode = Field(default="enforce", description="proof of identity")
    authorize: Mode = Field(default="enforce", description="scopes")
    limits: Mode = Field(default="enforce", description="rates")
    validate_request: Mode = Field(default="enforce", description="parameters and bodies")
    validate_response: Mode = Field(default="enforce", description="what the upstream answers")
    detect: Mode = Field(default="off", description="injection detection; to come, has no effect yet")


class UnknownProperties(Model):
    """Object properties that no schema declares, where the schema says nothing about them."""

    request: Strictness = Field(default="deny", description="in request bodies and parameters (mass assignment)")
    response: Strictness = Field(default="deny", description="in responses (excessive data exposure)")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"request": data, "response": data} if isinstance(data, str) else data


class Validation(Model):
    """How strictly the description is read."""

    unknown_query: Strictness = Field(
        default="deny", description="query parameters that the operation does not declare"
    )
    unknown_properties: UnknownProperties = Field(
        default=UnknownProperties(), description="`deny` or `allow`, or one for each direction"
    )


class Cors(Model):
    """Browsers of other origins. Without this section, no cross-origin request is answered."""

    origins: Annotated[Items[Origin], Field(min_length=1)] = Field(description="`https://app.example.com`, or `*`")
    allow_credentials: bool = Field(default=False, description="let browsers send cookies and `Authorization`")
    max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=600, description="how long a preflight is remembered"
    )
    expose_headers: Items[str] = Field(default=(), description="response headers that scripts may read")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "*" in self.origins and self.allow_credentials:
            raise ValueError("`allow_credentials` with origin `*` would trust every web page")
        return self


class Events(Model):
    """The record of decisions, one JSON object a line."""

    path: FilePath | None = Field(default=None, description="by default `events.jsonl` in the state folder")
    max_bytes: Size = Field(default=67108864, description="size at which the file is rotated")
    files: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="rotated files that are kept")
    queue: Count = Field(default=8192, description="events waiting to be written; more are dropped and counted")
    allowed: bool = Field(default=False, description="record requests that were let through, too")


class Metrics(Model):
    """OpenMetrics for Prometheus."""

    address: Address | None = Field(
        default=None, description="address to serve `/metrics` on; by default the admin socket only"
    )


class Policy(Model):
    """The whole of `stockade.yaml`. Everything but `api` has a safe default."""

    version: Literal[1] = Field(default=1, description="of this format")
    api: Api = Field(description="what is protected")
    listen: Listen = Field(default=Listen(), description="where clients come in")
    identity: Identity = Field(default=Identity(), description="who vouches for clients")
    limits: Limits = Field(default=Limits(), description="rates and sizes")
    layers: Layers = Field(default=Layers(), description="mode of each layer")
    validation: Validation = Field(default=Validation(), description="how strictly the description is read")
    authorize: FilePath | None = Field(default=None, description="folder of Cedar policies; to come, has no effect yet")
    cors: Cors | None = Field(default=None, description="browsers of other origins; by default none")
    events: Events = Field(default=Events(), description="the record of decisions")
    metrics: Metrics = Field(default=Metrics(), description="numbers for monitoring")
    state: FilePath = Field(
        default=Path(".stockade"),
        validate_default=True,
        description="folder for keys, certificates, database and events",
    )
    problem_base: str = Field(
        default="https://stockade.invalid/problems/", description="what `type` of a problem document starts with"
    )

    _tree: Tree | None = PrivateAttr(None)

    @field_validator("state", mode="after")
    @classmethod
    def _beside_the_file(cls, value: Path, info: ValidationInfo) -> Path:
        base = (info.context or {}).get("base")
        return base / value if base is not None else value

    @field_validator("problem_base")
    @classmethod
    def _ends_with_slash(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not value.endswith(("/", "#")):
            raise ValueError(f"`{value}` must be an http or https URL that ends with `/` or `#`")
        return value

    @classmethod
    def default(cls, *, description: str | Path, upstream: str) -> Policy:
        """The policy where there is no file: paths are as given. Raises PolicyError."""
        from stockade.policy.load import build  # noqa: PLC0415 (load imports this module)

        return build({"api": {"description": str(description), "upstream": upstream}})

    @property
    def file(self) -> Path | None:
        """The file this was read from; None where there is none."""
        return Path(self._tree.file) if self._tree is not None else None

    def with_addresses(
        self, listen: str, identity: str, *, mtls: str | None = None, admin_api: str | None = None
    ) -> Policy:
        """The same policy on the addresses that were really taken (port 0 asks for any free one)."""
        places: dict[str, Any] = {"listen": identity}
        if self.identity.mtls is not None and mtls is not None:
            places["mtls"] = self.identity.mtls.model_copy(update={"listen": mtls})
        if self.identity.admin_api is not None and admin_api is not None:
            places["admin_api"] = self.identity.admin_api.model_copy(update={"listen": admin_api})
        moved = self.model_copy(
            update={
                "listen": self.listen.model_copy(update={"address": listen}),
                "identity": self.identity.model_copy(update=places),
            }
        )
        moved._tree = self._tree  # noqa: SLF001 (ours)
        return moved

    @property
    def issuer(self) -> str:
        """The `iss` of access tokens."""
        if self.identity.issuer != "embedded":
            return self.identity.issuer
        return self.identity.issuer_url or f"https://localhost:{split_address(self.identity.listen)[1]}"

    @property
    def audience(self) -> str:
        """What `aud` of an access token must contain."""
        if self.identity.audience is not None:
            return self.identity.audience
        scheme = "http" if self.listen.tls.mode == "off" else "https"
        return f"{scheme}://localhost:{split_address(self.listen.address)[1]}"

    @property
    def acr_order(self) -> tuple[str, ...]:
        """Authentication contexts, weakest first: the embedded server's (docs/identity.md §1), or the policy's."""
        return EMBEDDED_ACR if self.identity.issuer == "embedded" else self.identity.external.acr_order

    @property
    def origins(self) -> tuple[str, ...]:
        """Scheme and authority by which clients may name the gate: what `htu` of a proof may say (RFC 9449 §4.3)."""
        host, port = split_address(self.listen.address)
        scheme = "http" if self.listen.tls.mode == "off" else "https"
        parts = urlsplit(self.audience)
        found = [f"{parts.scheme}://{parts.netloc}"] if parts.scheme in ("http", "https") and parts.netloc else []
        found += [f"https://{name}" for name in self.api.hosts]
        found += [f"{scheme}://{name}:{port}" for name in self.api.hosts]
        if not self.api.hosts and host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            found.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        return tuple(dict.fromkeys(found))

    def locate(self, *path: str | int) -> Location | None:
        """Where `path` (`"layers", "detect"`), or what holds it, stands in the file; None without a file."""
        return self._tree.locate(path, key=True) if self._tree is not None else None

    @property
    def warnings(self) -> tuple[tuple[str, Location | None], ...]:
        """What the file asks for and does not get yet."""
        found = []
        if self.layers.detect != "off":
            found.append(("layer `detect` is to come: it has no effect yet", self.locate("layers", "detect")))
        if self.authorize is not None:
            found.append(("Cedar policies are to come: `authorize` has no effect yet", self.locate("authorize")))
        return tuple(found)
