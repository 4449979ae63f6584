"""One shared server for what leaves it unharmed; a factory for what does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import Cluster, Server, running_cluster

from stockade.identity.certificates import make_development_ca, make_internal_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates


@pytest.fixture(scope="session")
def internal_certificates(tmp_path_factory: pytest.TempPathFactory) -> InternalCertificates:
    return make_internal_ca(tmp_path_factory.mktemp("internal"))


@pytest.fixture(scope="session")
def public_certificates(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentCertificates:
    return make_development_ca(tmp_path_factory.mktemp("public"), ["localhost"])


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    # Many tests fail to authenticate on purpose; what slows that down has tests of its own.
    patience = {"throttling": {"client_burst": 100_000, "address_burst": 100_000}}
    with Server(folder, internal_certificates, public_certificates, patience) as running:
        yield running


@pytest.fixture
def make_server(
    tmp_path: Path, internal_certificates: InternalCertificates, public_certificates: DevelopmentCertificates
) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(**changes: Any) -> Server:
        server = Server(tmp_path / f"server{len(made)}", internal_certificates, public_certificates, changes)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def outside(server: Server) -> Iterator[httpx.Client]:
    with server.outside() as client:
        yield client


@pytest.fixture
def gateway(server: Server) -> Iterator[httpx.Client]:
    with server.gateway() as client:
        yield client


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running
