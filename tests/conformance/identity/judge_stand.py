"""A whole Stockade for the judges: `stockade up`, an API behind it, clients and people made at the command line."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc.jwk import ECKey, RSAKey
from judge_person import Person
from shop import shop
from stack import Reply, Stack, Upstream

from stockade.identity.admin_people import create_user
from stockade.identity.admin_registration import create_initial_access_token
from stockade.identity.clients_metadata import GrantType
from stockade.identity.storage import Storage, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joserfc.jwk import Key

DAY = timedelta(days=1)
SCOPES = ("openid", "profile", "email", "offline_access", "orders:read", "orders:write")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Certificate:
    """PEM files of a client's certificate and key."""

    certificate: Path
    key: Path


class ClientCa:
    """An authority that certifies clients, with its own certificate in `path`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "judges' authority")])
        made = (
            _bare(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(*[False] * 5, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / "client-ca.pem"
        self.path.write_bytes(made.public_bytes(Encoding.PEM))

    def certify(self, name: str) -> Certificate:
        """A client certificate whose host name is `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            _bare(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return self._write(name, made, key)

    def self_signed(self, name: str) -> Certificate:
        """A certificate that nobody vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            _bare(subject, subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        return self._write(name, made, key)

    def _write(self, name: str, made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
        stem = f"{name}-{secrets.token_hex(4)}"
        found = Certificate(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        found.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return found


def _bare(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
    )


@dataclass
class Stand:
    """The running product and who uses it. Clients are dictionaries as the command line prints them."""

    stack: Stack
    ca: ClientCa
    upstream: Upstream
    _people: dict[str, str] = field(default_factory=dict, repr=False)
    _shared: dict[Certificate | None, httpx.Client] = field(default_factory=dict, repr=False)

    @property
    def issuer(self) -> str:
        return str(self.stack.ready["issuer_url"])

    @property
    def api(self) -> str:
        """A call that needs `orders:read`."""
        return f"{self.stack.url}/orders"

    @property
    def audience(self) -> str:
        """The API's identifier, as tokens name it."""
        return str(self.metadata_of_api()["resource"])

    def metadata_of_api(self) -> dict[str, Any]:
        with self.stack.http() as http:
            found: dict[str, Any] = http.get("/.well-known/oauth-protected-resource").json()
        return found

    def client(self, name: str, *options: str, scopes: tuple[str, ...] = SCOPES) -> dict[str, Any]:
        """Register a client under a name of its own."""
        named = [option for scope in scopes for option in ("--scope", scope)]
        unique = f"{name}-{secrets.token_hex(4)}"
        made: dict[str, Any] = self.stack.cli_json("client", "create", unique, *named, *options, "--json")
        return made

    def web_client(self, redirect_uri: str, *options: str, **more: Any) -> dict[str, Any]:
        """A confidential client of a website, that people sign in to."""
        grants = ("--grant", "authorization_code", "--grant", "refresh_token")
        return self.client("web", *grants, "--redirect-uri", redirect_uri, *options, **more)

    def person(self, username: str = "", **options: Any) -> Person:
        """Somebody at a fresh browser. The same name is the same user."""
        name = username or f"user-{secrets.token_hex(4)}"
        if name not in self._people:
            self._people[name] = secrets.token_urlsafe(18)
            with self.storage() as storage:
                create_user(
                    storage, name, self._people[name], email=f"{name}@example.com", name=name.title(), must_change=False
                )
        return Person(self.stack.tls, name, self._people[name], **options)

    def storage(self) -> Storage:
        """The identity database, as an administrator's command opens it."""
        return open_storage(f"sqlite:///{Path(self.stack.ready['state']) / 'identity' / 'identity.db'}")

    def initial_access_token(self) -> str:
        """What lets somebody register one client (RFC 7591 §3)."""
        with self.storage() as storage:
            made = create_initial_access_token(storage, f"for-{secrets.token_hex(4)}", SCOPES, get_args(GrantType))
        return made.initial_access_token

    def http(self, certificate: Certificate | None = None) -> httpx.Client:
        """A client of the authorization server, with a certificate or without."""
        tls = ssl.create_default_context(cafile=self.stack.ca)
        if certificate is not None:
            tls.load_cert_chain(certificate.certificate, certificate.key)
        return httpx.Client(base_url=self.issuer, verify=tls, trust_env=False, timeout=20)

    def shared_http(self, certificate: Certificate | None = None) -> httpx.Client:
        """The same, one for all, closed at the end."""
        if certificate not in self._shared:
            self._shared[certificate] = self.http(certificate)
        return self._shared[certificate]

    def close(self) -> None:
        for each in self._shared.values():
            each.close()

    def metadata(self) -> dict[str, Any]:
        with self.http() as http:
            found: dict[str, Any] = http.get("/.well-known/openid-configuration").json()
        return found


@contextmanager
def running(folder: Path, **identity: Any) -> Iterator[Stand]:
    """Start the product with these settings of `identity:` besides the defaults."""
    upstream = Upstream()
    upstream.answer = lambda _: Reply(body=b"[]")
    ca = ClientCa(folder / "ca")
    settings = {
        "listen": "127.0.0.1:0",
        "mtls": {"listen": f"127.0.0.1:{free_port()}", "client_ca": str(ca.path)},
        "device": {"seconds": 60, "interval_seconds": 1},
        "registration": "initial_access_token",
        **identity,
    }
    try:
        listen = {"tls": {"client_ca": str(ca.path), "client_certificate": "optional"}}
        with Stack(folder, shop(), upstream.url, identity=settings, listen=listen) as stack:
            stand = Stand(stack, ca, upstream)
            try:
                yield stand
            finally:
                stand.close()
    finally:
        upstream.close()


def key_pair(algorithm: str = "ES256") -> Key:
    """A signing key of a client, with a `kid`."""
    members = {"use": "sig", "alg": algorithm, "kid": secrets.token_hex(4)}
    if algorithm.startswith("ES"):
        return ECKey.generate_key("P-256", members)
    return RSAKey.generate_key(2048, members)


def jwks_file(folder: Path, *keys: Key) -> Path:
    """The public halves, as the command line wants them."""
    path = folder / f"jwks-{secrets.token_hex(4)}.json"
    path.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}))
    return path
