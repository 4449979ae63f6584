"""The administration API: what it believes, what it does, and that its description says so."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
import yaml
from joserfc.jwk import ECKey
from people_world import PASSWORD, Browser, World, kinds, world

from stockade.identity import admin, admin_people
from stockade.identity.admin_api import _OPERATIONS, admin_app, description
from stockade.identity.jose import sign
from stockade.identity.people import sessions, sign_in
from stockade.identity.storage.tokens import Authorization
from stockade.identity.tokens.internal import mint_internal_token
from stockade.identity.tokens.verified import VerifiedCredential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stockade.identity.storage.users import UserRecord

AUDIENCE = "https://id.example.com/admin"
ADMIN_API = {"admin_api": {"address": "127.0.0.1:8449"}}


@asynccontextmanager
async def api(folder: Path, **changes: Any) -> AsyncIterator[tuple[World, httpx.AsyncClient, UserRecord]]:
    """A world with the API in front, and an administrator with two factors who asks."""
    async with world(folder, **{**ADMIN_API, **changes}) as here:
        root = here.user("root", roles=["admin"])
        transport = httpx.ASGITransport(admin_app(here.services, here.storage))
        headers = {"Authorization": f"Bearer {token(here, sub=root.user_id, acr='mfa')}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://admin", headers=headers) as http:
            yield here, http, root


def token(here: World, **changes: Any) -> str:
    """An internal token as the gate in front gets it."""
    now = int(here.clock())
    claims = {
        "iss": here.services.config.issuer,
        "aud": AUDIENCE,
        "sub": "c_1",
        "client_id": "c_1",
        "scope": "openid stockade:admin",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
        **changes,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return here.services.usable_keyring().sign(present, "at+jwt")


# What it believes


def test_only_an_internal_token_of_this_gate_is_believed(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            good = {"sub": root.user_id, "acr": "mfa"}
            keyring = here.services.usable_keyring()
            text = token(here, **good)
            header, claims, signature = text.split(".")
            stranger = ECKey.generate_key("P-256")
            now = int(here.clock())
            unsigned = {"iss": here.services.config.issuer, "aud": AUDIENCE, "exp": now + 60, "scope": "stockade:admin"}
            forged = sign({"alg": "ES256", "typ": "at+jwt", "kid": keyring.kid}, {**unsigned, **good}, stranger)
            for bad in (
                None, "", "Bearer", "Basic eDp5", f"DPoP {text}", "Bearer x.y.z", f"Bearer {header}.{claims}.",
                f"Bearer {header}.{claims}.{signature[:-4]}AAAA", f"Bearer {forged}",
                f"Bearer {token(here, **good, aud='http://127.0.0.1:9000')}",
                f"Bearer {token(here, **good, aud=[AUDIENCE, 'http://127.0.0.1:9000'])}",
                f"Bearer {token(here, **good, iss='https://other.example')}",
                f"Bearer {token(here, **good, exp=now)}", f"Bearer {token(here, **good, exp=None)}",
                f"Bearer {keyring.sign({**unsigned, **good}, 'JWT')}",
                f"Bearer {token(here, acr=['mfa'], sub=root.user_id)}",
            ):  # fmt: skip
                headers = {} if bad is None else {"Authorization": bad}
                answer = await http.get("/admin/v1/users", headers={"Authorization": "", **headers})
                assert answer.status_code == 401, bad
                assert answer.headers["content-type"] == "application/problem+json"
            twice = [("Authorization", f"Bearer {text}"), ("Authorization", f"Bearer {text}")]
            request = http.build_request("GET", "/admin/v1/users", headers=httpx.Headers(twice))
            request.headers = httpx.Headers(twice)
            assert (await http.send(request)).status_code == 401
            assert (await http.get("/admin/v1/users")).status_code == 200

    asyncio.run(story())


def test_only_administrators_get_in_and_only_two_factors_change_anything(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            plain = here.user()
            gone = here.user("gone", roles=["admin"])
            admin_people.disable_user(here.storage, "gone")
            for claims, may_look, may_change in (
                ({"sub": root.user_id, "acr": "mfa"}, True, True),
                ({"sub": root.user_id, "acr": "phr"}, True, True),
                ({"sub": root.user_id, "acr": "pwd"}, True, False),
                ({"sub": root.user_id}, True, False),
                ({"sub": root.user_id, "acr": "urn:strong"}, True, False),
                ({"sub": plain.user_id, "acr": "phr"}, False, False),
                ({"sub": gone.user_id, "acr": "phr"}, False, False),
                ({"sub": "u_nobody", "acr": "phr"}, False, False),
                ({"sub": root.user_id, "acr": "mfa", "scope": "stockade:administrator"}, False, False),
                ({"sub": root.user_id, "acr": "mfa", "scope": None}, False, False),
                # A client that acts for itself has shown no factors.
                ({}, True, False),
            ):
                headers = {"Authorization": f"Bearer {token(here, **claims)}"}
                looked = await http.get("/admin/v1/users", headers=headers)
                changed = await http.post(f"/admin/v1/users/{plain.user_id}/enable", headers=headers)
                assert (looked.status_code == 200, changed.status_code == 200) == (may_look, may_change), claims
                assert {looked.status_code, changed.status_code} <= {200, 403}

    asyncio.run(story())


def test_no_other_upstreams_internal_token_opens_it(tmp_path: Path) -> None:
    """An upstream API that an administrator calls must not be able to call this API with what it was handed."""

    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            who = Authorization(user_id=root.user_id, auth_time=int(here.clock()), acr="mfa", amr=("pwd", "otp", "mfa"))
            for audience, status in ((AUDIENCE, 200), ("https://api.example.com", 401)):
                verified = VerifiedCredential(
                    client_id="c_1", sub=root.user_id, scopes=("stockade:admin",), iss=here.services.config.issuer,
                    aud=audience, iat=1, exp=int(here.clock()) + 500, jti="1", token_type="Bearer", authorization=who,
                )  # fmt: skip
                minted = mint_internal_token(
                    here.services.usable_keyring(), here.services.config, verified, here.clock()
                )
                headers = {"Authorization": f"Bearer {minted.text}"}
                answer = await http.post(f"/admin/v1/users/{root.user_id}/enable", headers=headers)
                assert answer.status_code == status

    asyncio.run(story())


def test_a_token_bound_to_one_operation_opens_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            path = f"/admin/v1/users/{root.user_id}"
            for operation, status in (
                ("GET /admin/v1/users/{user_id}", 200),
                ("GET /admin/v1/users", 401),
                (f"GET {path}", 401),
                ("PATCH /admin/v1/users/{user_id}", 401),
                (7, 401),
            ):
                headers = {"Authorization": f"Bearer {token(here, sub=root.user_id, operation=operation)}"}
                assert (await http.get(path, headers=headers)).status_code == status, operation

    asyncio.run(story())


# What it does


def test_the_life_of_a_person_over_http(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            body = {"username": "alice", "password": PASSWORD, "email": "a@example.com", "roles": ["support"]}
            made = await http.post("/admin/v1/users", json=body)
            assert made.status_code == 201
            alice = made.json()
            assert alice["must_change_password"] is True
            assert (await http.post("/admin/v1/users", json={"username": "ALICE"})).status_code == 409
            path = f"/admin/v1/users/{alice['user_id']}"
            assert (await http.get(path)).json() == alice
            changed = (await http.patch(path, json={"name": "Alice A.", "email": None})).json()
            assert (changed["name"], changed["email"], changed["roles"]) == ("Alice A.", None, ["support"])
            assert (await http.patch(path, json={"roles": []})).json()["roles"] == []
            weak = await http.put(f"{path}/password", json={"password": "password1"})
            assert weak.status_code == 422
            assert "common" in weak.json()["detail"]
            assert (await http.put(f"{path}/password", json={"password": "four-brown-kettles"})).status_code == 200
            browser = Browser()
            user = here.fresh(admin_people.show_user(here.storage, "alice"))
            session, cookie = await sessions.begin(here.services, browser.request, user, ("pwd",))
            browser.take(cookie)
            second, _ = await sessions.begin(here.services, Browser().request, user, ("pwd",))
            listed = (await http.get(f"{path}/sessions")).json()["sessions"]
            assert {one["session_id"] for one in listed} == {session.session_id, second.session_id}
            one = f"/admin/v1/sessions/{session.session_id}"
            assert [(await http.delete(one)).json() for _ in range(2)] == [{"ended": 1}, {"ended": 0}]
            assert await sessions.current(here.services, browser.request) is None
            assert (await http.delete(f"{path}/sessions")).json() == {"ended": 1}
            assert (await http.delete(f"{path}/factors")).json()["has_totp"] is False
            assert (await http.post(f"{path}/disable")).json()["disabled_at"] is not None
            refused = await sign_in.with_password(here.services, browser.request, "alice", "four-brown-kettles")
            assert isinstance(refused, sign_in.Refused)
            assert (await http.post(f"{path}/enable")).json()["disabled_at"] is None
            events = (await http.get("/admin/v1/audit", params={"user_id": alice["user_id"]})).json()["events"]
            assert {event["detail"].get("by") for event in events if event["kind"].startswith("user.")} == {
                root.user_id
            }
            assert "user.password_set" in kinds(here)

    asyncio.run(story())


def test_clients_and_tokens_are_stopped_over_http(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            made = admin.create_client(here.storage, "billing", ("a",), api_key=True)
            assert made.api_key is not None
            listed = (await http.get("/admin/v1/clients")).json()["clients"]
            assert [one["client_id"] for one in listed] == [made.client_id]
            for tries in range(2):
                body = {"credential": made.api_key.api_key}
                answer = await http.post("/admin/v1/tokens/revoke", json=body)
                assert answer.json() == {"revoked": tries == 0}
            for step in ("disable", "enable"):
                assert (await http.post(f"/admin/v1/clients/{made.client_id}/{step}")).status_code == 204
                assert (await http.post(f"/admin/v1/clients/c_nobody/{step}")).status_code == 404
            events = (await http.get("/admin/v1/audit")).json()["events"]
            by = [(event["kind"], event["detail"]["by"]) for event in events if event["client_id"] == made.client_id]
            deeds = ("client.created", "token.revoked", "client.disabled", "client.enabled")
            assert by == list(zip(deeds, ("operator", *[root.user_id] * 3), strict=True))

    asyncio.run(story())


def test_pages_of_people_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, _):
            for n in range(5):
                here.user(f"user{n}", None)
            names, after, rounds = [], "", 0
            while after is not None:
                query = {"limit": "2", **({"after": after} if after else {})}
                page = (await http.get("/admin/v1/users", params=query)).json()
                names += [one["username"] for one in page["users"]]
                after, rounds = page["next"], rounds + 1
            assert names == ["root", *[f"user{n}" for n in range(5)]]
            assert rounds == 4

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/admin/v1/users/u_nobody", None, 404),
        ("DELETE", "/admin/v1/sessions/s_nobody", None, 404),
        ("GET", "/admin/v1/users?limit=201", None, 422),
        ("GET", "/admin/v1/users?limit=-1", None, 422),
        ("GET", "/admin/v1/audit?after=x", None, 422),
        ("GET", "/admin/v1/audit?after=" + "9" * 30, None, 422),
        ("POST", "/admin/v1/users", b"{", 422),
        ("POST", "/admin/v1/users", b"[]", 422),
        ("POST", "/admin/v1/users", b'{"username": "x", "admin": true}', 422),
        ("POST", "/admin/v1/users", b'{"username": 7}', 422),
        ("POST", "/admin/v1/users", b'{"username": "two words"}', 422),
        ("POST", "/admin/v1/users", b'{"username": "x", "email": "nowhere"}', 422),
        ("POST", "/admin/v1/users", b'{"username": "x", "roles": ["a b"]}', 422),
        ("POST", "/admin/v1/users", b'{"username": "' + b"x" * 40_000 + b'"}', 413),
        ("GET", "/admin/v1/nothing", None, 404),
        ("PUT", "/admin/v1/users", None, 405),
        ("GET", "/admin/v1/users/", None, 404),
    ],
)
def test_what_is_wrong_is_refused_in_the_form_of_rfc_9457(
    tmp_path: Path, method: str, path: str, body: bytes | None, status: int
) -> None:
    async def story() -> None:
        async with api(tmp_path) as (_, http, _root):
            answer = await http.request(method, path, content=body)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status

    asyncio.run(story())


def test_a_database_that_is_gone_is_503_and_secrets_stay_out_of_what_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, _):
            here.storage.engine.dispose()
            database = tmp_path / "identity.db"
            hidden = database.rename(tmp_path / "hidden.db")
            database.mkdir()
            answer = await http.post("/admin/v1/users", json={"username": "alice", "password": PASSWORD})
            assert answer.status_code == 503
            assert PASSWORD not in answer.text
            database.rmdir()
            hidden.rename(database)

    asyncio.run(story())


# What its description says


def test_the_description_has_every_operation_and_no_other() -> None:
    document = yaml.safe_load(description())
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    }
    assert described == {(method, path) for method, path, _ in _OPERATIONS}


def test_every_change_asks_for_two_factors_and_every_operation_for_the_scope() -> None:
    document = yaml.safe_load(description())
    assert document["security"] == [{"stockade": ["stockade:admin"]}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            assert "security" not in operation, path
            acr = operation.get("x-stockade", {}).get("acr")
            assert acr == (None if method == "get" else ["mfa"]), (method, path)


def test_answers_are_what_the_description_says(tmp_path: Path) -> None:
    async def story() -> None:
        async with api(tmp_path) as (here, http, root):
            document = yaml.safe_load(description())
            await sessions.begin(here.services, Browser().request, here.user(), ("pwd",))
            admin.create_client(here.storage, "billing", ("a",))
            alice = admin_people.show_user(here.storage, "alice")
            for path, real in (
                ("/admin/v1/users", "/admin/v1/users"),
                ("/admin/v1/users/{user_id}", f"/admin/v1/users/{root.user_id}"),
                ("/admin/v1/users/{user_id}/sessions", f"/admin/v1/users/{alice.user_id}/sessions"),
                ("/admin/v1/clients", "/admin/v1/clients"),
                ("/admin/v1/audit", "/admin/v1/audit"),
            ):
                answer = await http.get(real)
                assert answer.status_code == 200
                assert any(answer.json().values())
                check(document, document["paths"][path]["get"]["responses"]["200"], answer.json())
            problem = await http.get("/admin/v1/users/u_nobody")
            check(document, document["components"]["responses"]["Problem"], problem.json())

    asyncio.run(story())


def check(document: dict[str, Any], response: dict[str, Any], value: Any) -> None:
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    (media,) = response["content"].values()
    schema = {**media["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(value)))


def test_our_own_gate_takes_the_description_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "admin.yaml"
    file.write_text(description())
    monkeypatch.chdir(tmp_path)
    from click.testing import CliRunner

    from stockade.cli.main import cli

    arguments = ["check", "--description", str(file), "--upstream", "http://127.0.0.1:9000", "--strict", "--json"]
    result = CliRunner().invoke(cli, arguments)
    findings = json.loads(result.stdout)
    assert result.exit_code == 0, findings
