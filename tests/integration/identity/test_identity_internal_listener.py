"""Who may speak at the internal listener, and what stands there."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from stockade.identity.certificates import make_internal_ca

if TYPE_CHECKING:
    from pathlib import Path

    from identity_support import Server

REFUSED = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)


def assert_refused(client: httpx.Client) -> None:
    with client, pytest.raises(REFUSED):
        client.get("/internal/health")


def test_the_gateway_is_heard(gateway: httpx.Client) -> None:
    answer = gateway.get("/internal/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_nobody_without_a_certificate_is_heard(server: Server) -> None:
    assert_refused(server.internal_client(None, None))


def test_the_servers_own_certificate_is_not_heard(server: Server) -> None:
    assert_refused(server.internal_client(server.internal.server_certificate, server.internal.server_key))


def test_a_gateway_of_another_installation_is_not_heard(server: Server, tmp_path: Path) -> None:
    other = make_internal_ca(tmp_path)
    assert_refused(server.internal_client(other.gateway_certificate, other.gateway_key))


def test_a_certificate_of_the_ca_with_another_name_is_not_heard(server: Server, tmp_path: Path) -> None:
    certificate, key = _client_certificate(server, tmp_path, "stockade-gateway-2")
    assert_refused(server.internal_client(certificate, key))
    assert any(line.get("reason") == "peer_not_allowed" for line in server.log_lines())


def test_the_name_alone_is_what_differs(server: Server, tmp_path: Path) -> None:
    """The counterpart of the test above: the same certificate with the right name is heard."""
    certificate, key = _client_certificate(server, tmp_path, "stockade-gateway")
    with server.internal_client(certificate, key) as client:
        assert client.get("/internal/health").status_code == 200


def test_old_tls_is_not_spoken(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.internal.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(server.internal.gateway_certificate), str(server.internal.gateway_key))
    assert_refused(httpx.Client(base_url=server.internal_url, verify=context, trust_env=False))


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/jwks", "/.well-known/oauth-authorization-server"])
def test_nothing_public_stands_on_the_internal_listener(gateway: httpx.Client, path: str) -> None:
    assert gateway.get(path).status_code == 404


def test_metrics_are_openmetrics(gateway: httpx.Client) -> None:
    answer = gateway.get("/internal/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    lines = answer.text.splitlines()
    assert lines[-1] == "# EOF"
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {
        "stockade_identity_tokens_issued",
        "stockade_identity_introspections",
        "stockade_identity_revocations",
        "stockade_identity_unavailable",
    } <= families
    samples = [line for line in lines if not line.startswith("#")]
    assert all(float(line.rpartition(" ")[2]) >= 0 for line in samples)


def _client_certificate(server: Server, folder: Path, name: str) -> tuple[Path, Path]:
    """A client certificate that the installation's CA really issued."""
    from stockade.identity import certificates

    ca = server.internal.ca
    authority = certificates._authority(ca, ca.with_suffix(".key"), "Stockade internal CA", None)
    return certificates._leaf(authority, folder / "c.pem", folder / "c.key", name, ())
