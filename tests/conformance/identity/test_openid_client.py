"""npm `openid-client`, a certified relying party, goes through every flow that it knows, up to the API at the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from judge_node import Program
from judge_stand import jwks_file, key_pair

if TYPE_CHECKING:
    from pathlib import Path

    from judge_person import Person
    from judge_stand import Stand

CALLBACK = "https://client.example/callback"
SIGNED_OUT = "https://client.example/signed-out"
ALL_SCOPES = "openid profile email offline_access orders:read"


def stand_for(stand: Stand, client: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a program is told."""
    known = {name: client[name] for name in ("client_id", "client_secret") if name in client}
    return {
        "issuer": stand.issuer,
        "auth": client["auth_method"],
        "api": stand.api,
        "ca": stand.stack.ca,
        "redirect_uri": CALLBACK,
        "scope": ALL_SCOPES,
        **known,
        **more,
    }


def sign_in(stand: Stand, person: Person, asked: dict[str, Any]) -> dict[str, Any]:
    """Run `sign_in.mjs` with this person at the browser."""

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "leave" in question:
            return {"callback": person.visit(question["leave"], SIGNED_OUT).url}
        return {"callback": person.visit(question["visit"], asked["redirect_uri"]).url}

    return Program("sign_in", stand.stack.ca, answer).result(asked)


def machine(stand: Stand, asked: dict[str, Any]) -> dict[str, Any]:
    return Program("machine", stand.stack.ca, lambda _: {}).result(asked)


# Programs that act for themselves


def test_client_credentials_by_secret_reach_the_api(stand: Stand) -> None:
    client = stand.client("machine", scopes=("orders:read",))
    result = machine(stand, stand_for(stand, client, scope="orders:read", oauth2=True))
    assert result["token_type"] == "bearer"
    assert result["scope"] == "orders:read"
    assert result["api"]["status"] == 200


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
def test_client_credentials_by_private_key_and_dpop_reach_the_api(stand: Stand, tmp_path: Path, algorithm: str) -> None:
    key = key_pair(algorithm)
    client = stand.client("machine", "--jwks", str(jwks_file(tmp_path, key)), "--dpop-bound", scopes=("orders:read",))
    asked = stand_for(stand, client, key=key.as_dict(private=True), dpop=True, scope="orders:read", oauth2=True)
    result = machine(stand, asked)
    assert result["token_type"] == "dpop"
    assert result["api"]["status"] == 200
