"""Mutual TLS (RFC 8705): clients that prove themselves by certificate, and tokens bound to one."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from certificate_support import Certificate, ask_with, dns, ip, make_certificate, with_certificate
from cryptography import x509
from dpop_support import DpopKey
from identity_support import AUDIENCE, basic, eventually, free_port, introspect
from signed_in_support import make_person

from stockade.identity import admin
from stockade.identity.binding import Binding
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.tokens import NewAccessToken, insert_access_token

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


def refused_by(http: httpx.Client, client_id: str) -> int:
    """The status; 0 where not even the handshake was made."""
    try:
        return ask_with(http, client_id).status_code
    except (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError):
        return 0


def status_with(server: Server, certificate: Certificate | None, client: CreatedClient) -> int:
    with with_certificate(server, certificate) as http:
        return refused_by(http, client.client_id)


def test_a_registered_certificate_is_taken_without_a_restart_and_dropped_with_its_client(
    server: Server, folder: Path
) -> None:
    """RFC 8705 §2.2.2. OpenSSL believes what is in its store, so the store follows the registrations."""
    certificate = make_certificate(folder / "self.pem")
    assert status_with(server, certificate, self_signed(server, "stranger", make_certificate(folder / "s.pem"))) == 0
    client = self_signed(server, "self-signed", certificate)
    eventually(lambda: status_with(server, certificate, client) == 200)
    with server.storage() as storage:
        admin.disable_client(storage, client.client_id)
    assert status_with(server, certificate, client) in (0, 401)
    eventually(lambda: status_with(server, certificate, client) == 0)


def test_a_client_rolls_its_certificate_over(server: Server, folder: Path) -> None:
    """RFC 8705 §2.2.2: several at a time; one that is no longer registered ends at once, in open connections too."""
    old, new = (make_certificate(folder / f"roll-{name}.pem") for name in ("old", "new"))
    client = self_signed(server, "rolling", old)
    eventually(lambda: status_with(server, old, client) == 200)
    with with_certificate(server, old) as kept:
        assert ask_with(kept, client.client_id).status_code == 200
        with server.storage() as storage:
            admin.update_client(storage, client.client_id, admin.ClientChanges(jwks=new.jwks))
        assert ask_with(kept, client.client_id).status_code == 401
    eventually(lambda: status_with(server, new, client) == 200)


def test_two_clients_may_have_certificates_of_the_same_name(server: Server, folder: Path) -> None:
    pair = [make_certificate(folder / f"same-{n}.pem", "CN=same") for n in range(2)]
    clients = [self_signed(server, f"same-{n}", certificate) for n, certificate in enumerate(pair)]
    for client, certificate in zip(clients, pair, strict=True):
        eventually(lambda client=client, certificate=certificate: status_with(server, certificate, client) == 200)
    assert status_with(server, pair[0], clients[1]) == 401
    assert status_with(server, pair[1], clients[0]) == 401


# --- Pretending to be another client ---


def test_the_certificate_of_another_client_is_refused(server: Server, folder: Path, authority: Certificate) -> None:
    mine = by_ca(server, "mine", tls_client_auth_san_dns="mine.example")
    certificate = make_certificate(folder / "mine.pem", "CN=x", authority, dns("mine.example"))
    victims = [
        by_ca(server, "theirs", tls_client_auth_san_dns="theirs.example"),
        by_ca(server, "theirs-by-dn", tls_client_auth_subject_dn="CN=mine.example"),
        self_signed(server, "theirs-by-key", make_certificate(folder / "theirs.pem")),
        server.client("theirs-by-secret"),
    ]
    assert status_with(server, certificate, mine) == 200
    assert [status_with(server, certificate, victim) for victim in victims] == [401] * 4


def test_a_registered_certificate_in_another_clients_name_gains_nothing(server: Server, folder: Path) -> None:
    """A self-signed certificate says what its maker likes; only its own client may come with it."""
    victim = by_ca(server, "victim-dn", tls_client_auth_subject_dn="CN=victim,O=Acme")
    forged = make_certificate(folder / "forged.pem", "CN=victim,O=Acme")
    attacker = self_signed(server, "attacker", forged)
    eventually(lambda: status_with(server, forged, attacker) == 200)
    assert status_with(server, forged, victim) == 401


def test_a_registered_certificate_cannot_issue_others(server: Server, folder: Path) -> None:
    """A client that registers a CA of its own would otherwise certify itself as anyone."""
    victim = by_ca(server, "victim-san", tls_client_auth_san_dns="victim.example")
    own = make_certificate(folder / "own-ca.pem", "CN=Own CA", authority=True)
    attacker = self_signed(server, "own-ca", own)
    eventually(lambda: status_with(server, own, attacker) == 200)
    leaf = make_certificate(folder / "leaf.pem", "CN=leaf", own, dns("victim.example"))
    assert status_with(server, leaf, victim) in (0, 401)
    assert status_with(server, leaf, attacker) in (0, 401)


def test_a_registered_certificate_in_the_cas_name_locks_nobody_out(
    server: Server, folder: Path, authority: Certificate
) -> None:
    """OpenSSL looks issuers up by name: such a one in its store could stand in the way of every client of the CA."""
    honest = by_ca(server, "honest", tls_client_auth_san_dns="honest.example")
    certificate = make_certificate(folder / "honest.pem", "CN=x", authority, dns("honest.example"))
    imposter = make_certificate(folder / "imposter.pem", "CN=Client CA,O=Acme", authority=True)
    attacker = self_signed(server, "imposter", imposter)
    marker = make_certificate(folder / "marker.pem")
    noted = self_signed(server, "marker", marker)
    eventually(lambda: status_with(server, marker, noted) == 200)
    assert status_with(server, certificate, honest) == 200
    assert status_with(server, imposter, attacker) in (0, 401)


def test_a_certificate_of_another_ca_does_not_get_in(server: Server, folder: Path) -> None:
    client = by_ca(server, "outside-ca", tls_client_auth_san_dns="outside.example")
    other = make_certificate(folder / "other-ca.pem", "CN=Client CA,O=Acme", authority=True)
    forged = make_certificate(folder / "outside.pem", "CN=x", other, dns("outside.example"))
    assert status_with(server, forged, client) == 0


@pytest.mark.parametrize("days", [(-2, -1), (1, 2)], ids=["expired", "not yet"])
def test_a_certificate_out_of_its_time_is_refused(
    server: Server, folder: Path, authority: Certificate, days: tuple[float, float]
) -> None:
    name = f"late{days[0]}.example"
    client = by_ca(server, f"late-{days[0]}", tls_client_auth_san_dns=name)
    late = make_certificate(folder / f"late{days[0]}.pem", "CN=x", authority, dns(name), days=days)
    assert status_with(server, late, client) == 0
    own = make_certificate(folder / f"own-late{days[0]}.pem", days=days)
    assert status_with(server, own, self_signed(server, f"own-late-{days[0]}", own)) == 0


def test_a_connection_does_not_outlive_its_certificate(server: Server, folder: Path, authority: Certificate) -> None:
    client = by_ca(server, "short", tls_client_auth_san_dns="short.example")
    seconds = 4
    short = make_certificate(folder / "short.pem", "CN=x", authority, dns("short.example"), days=(-1, seconds / 86_400))
    end = short.certificate.not_valid_after_utc.timestamp()
    with with_certificate(server, short) as http:
        assert ask_with(http, client.client_id).status_code == 200
        time.sleep(max(0, end + 1.1 - time.time()))
        assert ask_with(http, client.client_id).status_code == 401


def test_without_a_certificate_a_client_that_needs_one_is_told_so(
    server: Server, outside: httpx.Client, folder: Path
) -> None:
    clients = [
        by_ca(server, "bare", tls_client_auth_san_dns="bare.example"),
        self_signed(server, "bare-own", make_certificate(folder / "bare.pem")),
    ]
    for client in clients:
        assert status_with(server, None, client) == 401
        assert ask_with(outside, client.client_id).status_code == 401


def test_a_certificate_in_a_header_is_not_one(server: Server, outside: httpx.Client, authority: Certificate) -> None:
    """The server ends TLS itself and believes no proxy's word."""
    client = by_ca(server, "headers", tls_client_auth_subject_dn="CN=Client CA,O=Acme")
    pem = authority.x5c[0]
    headers = {"X-SSL-Client-Cert": pem, "Client-Cert": f":{pem}:", "X-Forwarded-Client-Cert": f"Cert={pem}"}
    form = {"grant_type": "client_credentials", "client_id": client.client_id}
    assert outside.post("/oauth2/token", data=form, headers=headers).status_code == 401


def test_a_certificate_beside_another_proof_does_not_stand_in_for_it(
    server: Server, folder: Path, authority: Certificate
) -> None:
    client = by_ca(server, "both-proofs", tls_client_auth_san_dns="both.example")
    certificate = make_certificate(folder / "both.pem", "CN=x", authority, dns("both.example"))
    form = {"grant_type": "client_credentials", "client_id": client.client_id}
    with with_certificate(server, certificate) as http:
        answer = http.post("/oauth2/token", data=form, headers=basic(client.client_id, "wrong"))
        assert answer.status_code == 401
        assert http.post("/oauth2/token", data={**form, "client_secret": "x"}).status_code == 401


# --- Tokens bound to a certificate (RFC 8705 §3) ---


def test_a_token_is_bound_to_the_certificate_it_was_asked_for_with(
    server: Server, gateway: httpx.Client, folder: Path
) -> None:
    certificate = make_certificate(folder / "bound.pem")
    client = self_signed(server, "bound", certificate, tls_client_certificate_bound_access_tokens=True)
    eventually(lambda: status_with(server, certificate, client) == 200)
    with with_certificate(server, certificate) as http:
        body = ask_with(http, client.client_id).json()
    assert body["token_type"] == "Bearer"
    assert introspect(gateway, body["access_token"])["cnf"] == {"x5t#S256": certificate.thumbprint}


def test_a_client_with_a_secret_gets_certificate_bound_tokens_only_with_a_certificate(
    server: Server, outside: httpx.Client, gateway: httpx.Client, folder: Path, authority: Certificate
) -> None:
    metadata = ClientMetadata(tls_client_certificate_bound_access_tokens=True)
    client = server.client("secret-and-certificate", metadata=metadata)
    form, headers = {"grant_type": "client_credentials"}, basic(client.client_id, client.client_secret or "")
    refusal = outside.post("/oauth2/token", data=form, headers=headers)
    assert (refusal.status_code, refusal.json()["error"]) == (400, "invalid_request")
    certificate = make_certificate(folder / "any.pem", "CN=any", authority)
    with with_certificate(server, certificate) as http:
        body = http.post("/oauth2/token", data=form, headers=headers).json()
    assert introspect(gateway, body["access_token"])["cnf"] == {"x5t#S256": certificate.thumbprint}


def test_a_certificate_binds_nothing_for_a_client_that_did_not_ask_for_it(
    server: Server, folder: Path, authority: Certificate, gateway: httpx.Client
) -> None:
    client = by_ca(server, "unbound", tls_client_auth_san_dns="unbound.example")
    certificate = make_certificate(folder / "unbound.pem", "CN=x", authority, dns("unbound.example"))
    with with_certificate(server, certificate) as http:
        token = ask_with(http, client.client_id).json()["access_token"]
    assert "cnf" not in introspect(gateway, token)


def test_a_bound_token_is_used_at_the_server_with_its_certificate_only(
    server: Server, folder: Path, authority: Certificate, outside: httpx.Client
) -> None:
    """RFC 8705 §3, at userinfo."""
    own, other = (make_certificate(folder / f"use-{name}.pem", f"CN={name}", authority) for name in ("own", "other"))
    client = server.client("uses")
    text, now = generate(Kind.ACCESS_TOKEN), int(time.time())
    with server.storage() as storage:
        who = make_person(storage)
        binding = Binding("x5t#S256", own.thumbprint)
        row = NewAccessToken(
            digest(text), "jti", client.client_id, 0, ("openid",), AUDIENCE, now, now + 300, binding, who
        )
        with storage.write() as connection:
            insert_access_token(connection, row)
    headers = {"Authorization": f"Bearer {text}"}
    with with_certificate(server, own) as http:
        assert http.get("/oauth2/userinfo", headers=headers).json()["sub"] == who.user_id
    for certificate in (other, None):
        with with_certificate(server, certificate) as http:
            assert http.get("/oauth2/userinfo", headers=headers).status_code == 401
    assert outside.get("/oauth2/userinfo", headers=headers).status_code == 401


def test_a_proof_for_this_listener_names_its_own_address(server: Server, folder: Path, authority: Certificate) -> None:
    """DPoP over mutual TLS: `htu` is the alias (RFC 8705 §5), not the public listener."""
    client = by_ca(server, "dpop-alias", tls_client_auth_san_dns="alias.example")
    certificate = make_certificate(folder / "alias.pem", "CN=x", authority, dns("alias.example"))
    key, form = DpopKey(), {"grant_type": "client_credentials", "client_id": client.client_id}
    with with_certificate(server, certificate) as http:
        assert key.post(http, "/oauth2/token", **form).json()["token_type"] == "DPoP"
        other = key.proof("POST", server.token_url)
        refusal = http.post("/oauth2/token", data=form, headers={"DPoP": other})
    assert refusal.json()["error"] == "invalid_dpop_proof"


def test_a_public_client_may_have_its_tokens_bound_to_a_certificate(
    server: Server, folder: Path, authority: Certificate
) -> None:
    """RFC 8705 §4: here as far as the door; what it may ask for there is for its grants to say."""
    client = server.client("public", auth_method="none", metadata=ClientMetadata(grant_types=()))
    certificate = make_certificate(folder / "public.pem", "CN=x", authority)
    with with_certificate(server, certificate) as http:
        assert ask_with(http, client.client_id).json()["error"] == "unauthorized_client"


# --- The listener ---


def test_the_metadata_name_the_listener(server: Server, outside: httpx.Client) -> None:
    document = outside.get("/.well-known/oauth-authorization-server").json()
    aliases = document["mtls_endpoint_aliases"]
    assert aliases["token_endpoint"] == f"https://localhost:{server.mtls_port}/oauth2/token"
    assert set(aliases) == {
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "userinfo_endpoint",
        "device_authorization_endpoint",
        "pushed_authorization_request_endpoint",
    }
    assert document["tls_client_certificate_bound_access_tokens"] is True
    methods = document["token_endpoint_auth_methods_supported"]
    assert {"tls_client_auth", "self_signed_tls_client_auth"} <= set(methods)


@pytest.mark.parametrize(
    "path",
    ["/", "/oauth2/authorize", "/oauth2/jwks", "/oauth2/register", "/internal/introspect", "/sign-in", "/account"],
)
def test_nothing_else_stands_on_the_listener(server: Server, path: str) -> None:
    with with_certificate(server, None) as http:
        assert http.get(path).status_code == 404
        assert http.post(path, data={"x": "y"}).status_code == 404


def test_the_listener_speaks_tls_1_3_only(server: Server) -> None:
    context = server.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", server.mtls_port)) as plain:
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_handshake_without_a_server_name_is_checked_too(server: Server, folder: Path, authority: Certificate) -> None:
    """The context is chosen when the name is read; a client that sends none must not get another one."""
    certificate = make_certificate(folder / "nameless.pem")
    client = self_signed(server, "nameless", certificate)
    eventually(lambda: status_with(server, certificate, client) == 200)
    stranger = make_certificate(folder / "nameless-stranger.pem")

    def status(own: Certificate) -> int:
        context = server.trust()
        context.check_hostname = False
        context.load_cert_chain(str(own.path))
        url = f"https://127.0.0.1:{server.mtls_port}"
        with httpx.Client(base_url=url, verify=context, trust_env=False) as http:
            return refused_by(http, client.client_id)

    assert status(certificate) == 200
    assert status(stranger) == 0


def test_sessions_are_not_resumed(server: Server, folder: Path, authority: Certificate) -> None:
    """A resumed one has no chain to look at, and its certificate may have ended since."""
    context = server.trust()
    context.load_cert_chain(str(make_certificate(folder / "resume.pem", "CN=x", authority).path))
    with (
        socket.create_connection(("127.0.0.1", server.mtls_port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 404")
        assert connection.session is None or not connection.session.has_ticket


def test_a_client_ca_that_cannot_be_read_stops_the_start_and_not_a_reload(
    make_server: Any, folder: Path, authority: Certificate
) -> None:
    broken = folder / "broken.pem"
    broken.write_text("no certificate")
    address = f"127.0.0.1:{free_port()}"
    server = make_server(mtls={"address": address, "ca": str(broken)})
    assert server.spawn().wait(20) != 0
    server.stop()
    assert "client CA" in server.log_path.read_text()
    server.mtls_port = int(address.rpartition(":")[2])
    server.write_config(mtls={"address": address, "ca": str(authority.path)})
    with server:
        client = by_ca(server, "kept", tls_client_auth_san_dns="kept.example")
        certificate = make_certificate(folder / "kept.pem", "CN=x", authority, dns("kept.example"))
        assert status_with(server, certificate, client) == 200
        server.write_config(mtls={"address": address, "ca": str(broken)})
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: any(line["event"] == "reload_refused" for line in server.log_lines()))
        assert status_with(server, certificate, client) == 200


def test_a_reload_takes_another_client_ca(make_server: Any, folder: Path, authority: Certificate) -> None:
    other = make_certificate(folder / "next-ca.pem", "CN=Next CA", authority=True)
    address = f"127.0.0.1:{free_port()}"
    server = make_server(mtls={"address": address, "ca": str(authority.path)})
    server.mtls_port = int(address.rpartition(":")[2])
    with server:
        client = by_ca(server, "moved", tls_client_auth_san_dns="moved.example")
        old = make_certificate(folder / "moved-old.pem", "CN=x", authority, dns("moved.example"))
        new = make_certificate(folder / "moved-new.pem", "CN=x", other, dns("moved.example"))
        assert (status_with(server, old, client), status_with(server, new, client)) == (200, 0)
        server.write_config(mtls={"address": address, "ca": str(other.path)})
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: status_with(server, new, client) == 200)
        assert status_with(server, old, client) == 0
