"""Mutual TLS (RFC 8705): clients that prove themselves by certificate, and tokens bound to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from certificate_support import Certificate, ask_with, dns, ip, make_certificate, with_certificate
from cryptography import x509
from identity_support import eventually, free_port

from stockade.identity import admin
from stockade.identity.clients_metadata import ClientMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from identity_support import Server

    from stockade.identity.admin import CreatedClient
    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Certificate:
    return make_certificate(folder / "ca.pem", "CN=Client CA,O=Acme", authority=True)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
    authority: Certificate,
) -> Iterator[Server]:
    from identity_support import Server

    port = free_port()
    changes: dict[str, Any] = {
        "mtls": {"address": f"127.0.0.1:{port}", "ca": str(authority.path)},
        "throttling": {"client_burst": 100_000, "address_burst": 100_000},
    }
    made = Server(tmp_path_factory.mktemp("mtls"), internal_certificates, public_certificates, changes)
    made.mtls_port = port
    with made as running:
        yield running


def by_ca(server: Server, name: str, **metadata: str) -> CreatedClient:
    return server.client(name, auth_method="tls_client_auth", metadata=ClientMetadata.model_validate(metadata))


def self_signed(server: Server, name: str, certificate: Certificate, **metadata: Any) -> CreatedClient:
    return server.client(
        name,
        auth_method="self_signed_tls_client_auth",
        jwks=certificate.jwks,
        metadata=ClientMetadata.model_validate(metadata),
    )


@pytest.mark.parametrize(
    ("kind", "registered", "names"),
    [
        ("san_dns", "Billing.example.com", dns("other.example.com", "billing.example.com")),
        ("san_uri", "urn:client:7", [x509.UniformResourceIdentifier("urn:client:7")]),
        ("san_ip", "2001:db8:0::7", ip("2001:db8::7")),
        ("san_email", "ops@example.com", [x509.RFC822Name("ops@example.com")]),
        ("subject_dn", "cn=client,2.5.4.10=Acme\\, Inc", []),
    ],
)
def test_a_certificate_of_the_ca_with_the_registered_name_is_its_client(
    server: Server, folder: Path, authority: Certificate, kind: str, registered: str, names: list[x509.GeneralName]
) -> None:
    """RFC 8705 §2.1.2, each of the five kinds."""
    client = by_ca(server, f"by-{kind}", **{f"tls_client_auth_{kind}": registered})
    subject = "CN=client,O=Acme\\, Inc" if kind == "subject_dn" else "CN=whoever"
    with with_certificate(server, make_certificate(folder / f"{kind}.pem", subject, authority, names)) as http:
        assert ask_with(http, client.client_id).status_code == 200
    other = make_certificate(folder / f"{kind}-other.pem", "CN=client,O=Acme\\, Inc,C=DE", authority, dns("x.example"))
    with with_certificate(server, other) as http:
        assert ask_with(http, client.client_id).status_code == 401


def test_a_registered_certificate_is_taken_without_a_restart_and_dropped_with_its_client(
    server: Server, folder: Path
) -> None:
    """RFC 8705 §2.2.2. OpenSSL believes what is in its store, so the store follows the registrations."""
    certificate = make_certificate(folder / "self.pem")
    client = self_signed(server, "self-signed", certificate)

    def gets(status: int) -> bool:
        with with_certificate(server, certificate) as http:
            try:
                return ask_with(http, client.client_id).status_code == status
            except (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError):
                return status == 0

    eventually(lambda: gets(200))
    with server.storage() as storage:
        admin.disable_client(storage, client.client_id)
    eventually(lambda: gets(0))
