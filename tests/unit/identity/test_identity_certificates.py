"""The certificates that Stockade makes for itself."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from stockade.errors import StateError
from stockade.identity import certificates
from stockade.identity.certificates import make_development_ca, make_internal_ca

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def usages(path: Path) -> list[x509.ObjectIdentifier]:
    return list(read(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_the_internal_ca_issues_one_server_and_one_client(tmp_path: Path) -> None:
    made = make_internal_ca(tmp_path / "internal")
    assert usages(made.server_certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usages(made.gateway_certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert read(made.gateway_certificate).subject.rfc4514_string() == "CN=stockade-gateway"
    for path in (made.server_certificate, made.gateway_certificate):
        read(path).verify_directly_issued_by(read(made.ca))


def test_keys_are_closed_to_others(tmp_path: Path) -> None:
    make_internal_ca(tmp_path / "internal")
    keys = list((tmp_path / "internal").glob("*.key"))
    assert len(keys) == 3
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in keys)
    assert (tmp_path / "internal").stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "internal").glob(".*.new"))


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    names = ["api.example", "192.0.2.7"]
    make_internal_ca(tmp_path)
    make_development_ca(tmp_path / "dev", names)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    make_internal_ca(tmp_path)
    make_development_ca(tmp_path / "dev", names)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_leaves_near_their_end_are_renewed_under_the_same_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(certificates, "LEAF_DAYS", 29)
        first = make_development_ca(tmp_path, [])
        old, ca = read(first.certificate), first.ca.read_bytes()
    second = make_development_ca(tmp_path, [])
    assert second.ca.read_bytes() == ca
    assert read(second.certificate).serial_number != old.serial_number
    assert read(second.certificate).not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=80)


def test_a_ca_near_its_end_is_replaced_with_its_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(certificates, "CA_DAYS", 60)
        ca = make_internal_ca(tmp_path).ca.read_bytes()
    made = make_internal_ca(tmp_path)
    assert made.ca.read_bytes() != ca
    read(made.gateway_certificate).verify_directly_issued_by(read(made.ca))


@pytest.mark.parametrize("name", ["server.pem", "server.key", "ca.key"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
def test_missing_and_broken_files_are_made_anew(tmp_path: Path, name: str, content: bytes | None) -> None:
    made = make_development_ca(tmp_path, [])
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert make_development_ca(tmp_path, []) == made
    assert _handshake(made.certificate, made.key, made.ca, "localhost")


def test_a_key_that_does_not_belong_is_noticed(tmp_path: Path) -> None:
    made, other = make_development_ca(tmp_path / "a", []), make_development_ca(tmp_path / "b", [])
    made.key.write_bytes(other.key.read_bytes())
    make_development_ca(tmp_path / "a", [])
    assert _handshake(made.certificate, made.key, made.ca, "localhost")


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "api.example", "192.0.2.7", "2001:db8::1", "bücher.example"]
)
def test_development_certificates_hold_for_their_names(tmp_path: Path, name: str) -> None:
    made = make_development_ca(tmp_path, ["api.example", "192.0.2.7", "2001:db8::1", "bücher.example"])
    assert _handshake(made.certificate, made.key, made.ca, name)


def test_the_development_ca_cannot_speak_for_other_names(tmp_path: Path) -> None:
    """Whoever trusts it has trusted it with these names only, even if its key is stolen."""
    made = make_development_ca(tmp_path, ["api.example"])
    authority = certificates._authority(made.ca, tmp_path / "ca.key", "", None)
    leaf = certificates._leaf(authority, tmp_path / "x.pem", tmp_path / "x.key", "x", ("bank.example",))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        _handshake(*leaf, made.ca, "bank.example")


def test_a_name_beyond_the_ca_makes_a_new_ca(tmp_path: Path) -> None:
    ca = make_development_ca(tmp_path, ["api.example"]).ca.read_bytes()
    assert make_development_ca(tmp_path, ["localhost"]).ca.read_bytes() == ca
    made = make_development_ca(tmp_path, ["api.example", "new.example"])
    assert made.ca.read_bytes() != ca
    assert _handshake(made.certificate, made.key, made.ca, "new.example")


def test_parallel_calls_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: make_internal_ca(tmp_path), range(6)))
    made = make_internal_ca(tmp_path)
    assert _handshake(made.server_certificate, made.server_key, made.ca, "localhost")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        make_internal_ca(tmp_path / "file")
    with pytest.raises(StateError, match="host name"):
        make_development_ca(tmp_path / "x", ["a" * 300])


def _handshake(certificate: Path, key: Path, ca: Path, name: str) -> bool:
    """A real TLS handshake with all checks a strict client makes."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    asking = ssl.create_default_context(cafile=str(ca))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(left, server_side=True) as secured:
                secured.recv(1)
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with right, asking.wrap_socket(right, server_hostname=name) as secured:
            secured.sendall(b"x")
            return True
    finally:
        right.close()
        thread.join()
