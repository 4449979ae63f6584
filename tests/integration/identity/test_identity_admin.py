"""The operations of the command line, without a server."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import jwks_of, signing_key

from stockade.identity import admin
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.credentials import Kind, generate, kind_of
from stockade.identity.errors import AdministrationError
from stockade.identity.keys.keyring import ensure_keys
from stockade.identity.keys.seal import Seal, ensure_key_file, load_seal
from stockade.identity.storage import Storage, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(f"sqlite:///{tmp_path}/identity.db") as opened:
        yield opened


def test_secrets_are_shown_once_and_never_by_repr(storage: Storage) -> None:
    created = admin.create_client(storage, "c", ["a"], api_key=True)
    assert created.client_secret is not None
    assert created.api_key is not None
    assert kind_of(created.client_secret) is Kind.CLIENT_SECRET
    assert kind_of(created.api_key.api_key) is Kind.API_KEY
    for text in (repr(created), str(admin.list_clients(storage))):
        assert created.client_secret not in text
        assert created.api_key.api_key not in text


def test_clients_are_listed_with_their_keys(storage: Storage) -> None:
    second = admin.create_client(storage, "b", ["x", "y"], api_key=True)
    first = admin.create_client(storage, "a", ["x"], "none")
    key = admin.create_api_key(storage, "b", ["y"], "narrow", 60)
    listed = admin.list_clients(storage)
    assert [client.client_id for client in listed] == [first.client_id, second.client_id]
    assert {found.name: found.scopes for found in listed[1].api_keys} == {"b": ("x", "y"), "narrow": ("y",)}
    assert key.expires_at is not None


def test_a_name_is_taken_once(storage: Storage) -> None:
    admin.create_client(storage, "c", [])
    with pytest.raises(AdministrationError, match="exists"):
        admin.create_client(storage, "c", [])
    assert len(admin.list_clients(storage)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"scopes": ["a b"]}, "scope"),
        ({"scopes": [""]}, "scope"),
        ({"auth_method": "client_secret_post"}, "unknown authentication method"),
        ({"auth_method": "private_key_jwt"}, "needs a JWK Set"),
        ({"auth_method": "private_key_jwt", "jwks": {"keys": []}}, "at least one key"),
        ({"auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, "private key"),
        ({"auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "EC", "crv": "P-521"}]}}, "cannot be used"),
        ({"jwks": {"keys": []}}, "only"),
    ],
)
def test_wrong_registrations_are_refused(storage: Storage, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AdministrationError, match=message):
        admin.create_client(storage, **{"name": "c", "scopes": [], **options})
    assert admin.list_clients(storage) == []


def test_a_private_key_is_not_registered(storage: Storage) -> None:
    jwks = {"keys": [signing_key(kid="k").as_dict(private=True)]}
    with pytest.raises(AdministrationError, match="private key"):
        admin.create_client(storage, "c", [], "private_key_jwt", jwks)


def test_keys_with_the_same_kid_are_refused(storage: Storage) -> None:
    jwks = jwks_of(signing_key(kid="k"), signing_key(kid="k"))
    with pytest.raises(AdministrationError, match="kid"):
        admin.create_client(storage, "c", [], "private_key_jwt", jwks)


def test_weak_rsa_keys_are_refused(storage: Storage) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(65_537, 1_024).public_key().public_numbers()  # noqa: S505 - that is the point
    modulus = urlsafe_b64encode(numbers.n.to_bytes(128, "big")).rstrip(b"=").decode()
    jwks = {"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]}
    with pytest.raises(AdministrationError, match="cannot be used"):
        admin.create_client(storage, "c", [], "private_key_jwt", jwks)


def test_an_api_key_has_no_more_than_its_client(storage: Storage) -> None:
    admin.create_client(storage, "c", ["a"])
    with pytest.raises(AdministrationError, match="scope"):
        admin.create_api_key(storage, "c", ["a", "b"])
    with pytest.raises(AdministrationError, match="future"):
        admin.create_api_key(storage, "c", expires_in_seconds=0)


def test_unknown_clients_are_named(storage: Storage) -> None:
    for act in (admin.disable_client, admin.enable_client, admin.rotate_client_secret, admin.create_api_key):
        with pytest.raises(AdministrationError, match="`nobody`"):
            act(storage, "nobody")


def test_only_a_secret_can_be_rotated(storage: Storage) -> None:
    admin.create_client(storage, "c", [], "none")
    with pytest.raises(AdministrationError, match="no secret"):
        admin.rotate_client_secret(storage, "c")
    with pytest.raises(AdministrationError, match="negative"):
        admin.rotate_client_secret(storage, "c", -1)


def test_an_api_key_is_revoked_by_itself_or_its_id(storage: Storage) -> None:
    created = admin.create_client(storage, "c", [], "none", api_key=True)
    assert created.api_key is not None
    by_id = admin.create_api_key(storage, "c")
    for name in (created.api_key.api_key, by_id.key_id):
        assert admin.revoke_token(storage, name) is True
        assert admin.revoke_token(storage, name) is False
    for key in (created.api_key.api_key, by_id.api_key):
        found = admin.introspect(storage, key)
        assert found is not None
        assert found.standing == "revoked"


def test_nothing_is_revoked_for_what_is_unknown(storage: Storage) -> None:
    for text in ("nonsense", generate(Kind.ACCESS_TOKEN), generate(Kind.CLIENT_SECRET), generate(Kind.API_KEY)):
        assert admin.revoke_token(storage, text) is False
        assert admin.introspect(storage, text) is None


def test_keys_are_rotated_with_their_own_seal_only(storage: Storage, tmp_path: Path) -> None:
    from stockade.errors import StateError

    assert ensure_key_file(tmp_path / "kek") is True
    assert ensure_key_file(tmp_path / "kek") is False
    seal = load_seal(KeyEncryptionKey(file=tmp_path / "kek"))
    before = ensure_keys(storage, seal, 1)
    with pytest.raises(StateError, match="rotated"):
        admin.rotate_keys(storage, Seal(bytes(32)))
    admin.rotate_keys(storage, seal)
    after = ensure_keys(storage, seal, 2)
    assert after.kid != before.kid
    assert before.kid in {key["kid"] for key in after.public_jwks["keys"]}
