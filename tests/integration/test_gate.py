"""What passes and what does not, through the real gateway over TLS."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from stack import Reply, Stack, Upstream, until

if TYPE_CHECKING:
    from collections.abc import Iterator

READ, WRITE = "orders:read", "orders:write"
ORDER = {"sku": "ABC-1234", "qty": 2}
STORED = {"id": 7, **ORDER}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, body=json.dumps(value).encode())


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def client(request: pytest.FixtureRequest, stack: Stack) -> Iterator[httpx.Client]:
    with stack.http(http2=request.param) as made:
        yield made


def refused(answer: httpx.Response, status: int, upstream: Upstream) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert not upstream.seen
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert set(problem) == {"type", "title", "status", "detail", "instance"}
    return problem


# Legitimate traffic


def test_a_token_with_the_scope_passes_and_the_upstream_gets_a_jwt_for_itself(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    upstream.answer = lambda _: json_reply([STORED])
    token = stack.token(READ)
    answer = client.get("/orders?limit=3", headers=bearer(token))
    assert answer.status_code == 200
    assert answer.json() == [STORED]
    (seen,) = upstream.seen
    assert seen.target == "/orders?limit=3"
    internal = (seen.header("authorization") or "").removeprefix("Bearer ")
    assert token not in str(seen.headers)
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in internal.split(".")[:2])
    assert header["typ"] == "at+jwt"
    assert claims["aud"] == stack.url
    assert claims["scope"] == READ
    assert claims["client_id"] == stack.client(READ)["client_id"]
    assert claims["exp"] - time.time() <= 121


def test_the_internal_jwt_verifies_against_the_published_keys(stack: Stack, upstream: Upstream) -> None:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    upstream.answer = lambda _: json_reply([])
    with stack.http() as client:
        assert client.get("/orders", headers=bearer(stack.token(READ))).status_code == 200
    internal = (upstream.seen[0].header("authorization") or "").removeprefix("Bearer ")
    keys = httpx.get(stack.ready["issuer_url"] + "/oauth2/jwks", verify=stack.tls, trust_env=False).json()
    assert jwt.decode(internal, KeySet.import_key_set(keys)).claims["iss"] == stack.ready["issuer_url"]


def test_a_valid_body_reaches_the_upstream_unchanged(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    upstream.answer = lambda _: json_reply(STORED, 201)
    body = b'{ "sku" : "ABC-1234",\n "qty":2 }'
    answer = client.post(
        "/orders", content=body, headers={**bearer(stack.token(WRITE)), "Content-Type": "application/json"}
    )
    assert answer.status_code == 201, answer.text
    assert upstream.seen[0].body == body


def test_a_public_operation_needs_nothing_and_forwards_no_credential(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    upstream.answer = lambda _: json_reply({"ok": True})
    assert client.get("/status", headers=bearer("anything-at-all")).status_code == 200
    assert upstream.seen[0].header("authorization") is None


def test_an_api_key_passes_where_the_description_says_and_is_replaced(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    key = stack.client(READ, api_key=True)["api_key"]
    assert client.get("/partner", headers={"X-API-Key": key}).status_code == 200
    (seen,) = upstream.seen
    assert seen.header("x-api-key") is None
    assert key not in str(seen.headers)
    assert (seen.header("authorization") or "").startswith("Bearer ey")


def test_head_is_answered_where_get_is_declared(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    upstream.answer = lambda _: json_reply([STORED])
    answer = client.head("/orders", headers=bearer(stack.token(READ)))
    assert answer.status_code == 200
    assert answer.content == b""


def test_forwarding_and_identity_headers_of_the_client_are_rewritten(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    upstream.answer = lambda _: json_reply({"ok": True})
    spoofed = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6", "X-User-Id": "1",
               "X-Forwarded-User": "admin"}  # fmt: skip
    assert client.get("/status", headers=spoofed).status_code == 200
    assert "6.6.6.6" not in str(upstream.seen[0].headers)
    assert "admin" not in str(upstream.seen[0].headers)
    assert upstream.seen[0].header("x-user-id") is None
    assert "127.0.0.1" in (upstream.seen[0].header("x-forwarded-for") or "")


def test_trace_context_is_passed_on(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    upstream.answer = lambda _: json_reply({"ok": True})
    trace = "0af7651916cd43dd8448eb211c80319c"
    client.get("/status", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert trace in (upstream.seen[0].header("traceparent") or "")


# Authentication and authorization


def test_no_token_gets_401_with_a_challenge_and_the_metadata(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    answer = client.get("/orders")
    refused(answer, 401, upstream)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer")
    assert "error=" not in challenge
    metadata_url = challenge.split('resource_metadata="')[1].split('"')[0]
    metadata = httpx.get(metadata_url, verify=stack.tls, trust_env=False).json()
    assert metadata["resource"] == stack.url
    assert metadata["authorization_servers"] == [stack.ready["issuer_url"]]


@pytest.mark.parametrize("token", ["garbage", "stk_at_" + "A" * 49, "eyJhbGciOiJub25lIn0.e30.", "a b", "\xff"])
def test_a_token_that_nobody_issued_gets_401(
    stack: Stack, upstream: Upstream, client: httpx.Client, token: str
) -> None:
    answer = client.get("/orders", headers=[("Authorization", b"Bearer " + token.encode("latin-1"))])
    assert answer.status_code in (400, 401)
    assert not upstream.seen


def test_a_token_without_the_scope_gets_403_that_names_it(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    answer = client.post("/orders", json=ORDER, headers=bearer(stack.token(READ)))
    refused(answer, 403, upstream)
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="orders:write"' in answer.headers["www-authenticate"]


def test_an_operation_that_says_nothing_of_security_needs_a_token(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    refused(client.get("/undeclared-security"), 401, upstream)
    assert client.get("/undeclared-security", headers=bearer(stack.token(READ))).status_code == 200


def test_a_token_in_the_query_is_refused(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    refused(client.get(f"/orders?access_token={stack.token(READ)}"), 400, upstream)


def test_an_access_token_is_no_api_key_and_the_reverse(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    key = stack.client(READ, api_key=True)["api_key"]
    refused(client.get("/orders", headers=bearer(key)), 401, upstream)
    refused(client.get("/partner", headers={"X-API-Key": stack.token(READ)}), 401, upstream)


def test_a_revoked_token_is_refused_within_a_second(stack: Stack, upstream: Upstream) -> None:
    upstream.answer = lambda _: json_reply([])
    token = stack.token(READ)
    made = stack.client(READ)
    with stack.http() as client:
        assert client.get("/orders", headers=bearer(token)).status_code == 200
        done = httpx.post(
            stack.ready["issuer_url"] + "/oauth2/revoke", data={"token": token},
            auth=(made["client_id"], made["client_secret"]), verify=stack.tls, trust_env=False,
        )  # fmt: skip
        assert done.status_code == 200
        took = until(lambda: client.get("/orders", headers=bearer(token)).status_code == 401, 3, "revocation")
    assert took < 1.0
    assert "stockade_revocation_lag_seconds" in stack.metrics()


def test_a_disabled_client_loses_all_its_tokens(stack: Stack, upstream: Upstream) -> None:
    upstream.answer = lambda _: json_reply([])
    made = stack.cli_json("client", "create", "short-lived", "--scope", READ, "--json")
    fields = {"grant_type": "client_credentials"}
    credentials = (made["client_id"], made["client_secret"])
    endpoint = stack.ready["token_endpoint"]
    token = httpx.post(endpoint, data=fields, auth=credentials, verify=stack.tls, trust_env=False).json()[
        "access_token"
    ]
    with stack.http() as client:
        assert client.get("/orders", headers=bearer(token)).status_code == 200
        assert stack.cli("client", "disable", "short-lived").returncode == 0
        until(lambda: client.get("/orders", headers=bearer(token)).status_code == 401, 2, "revocation")
    assert httpx.post(endpoint, data=fields, auth=credentials, verify=stack.tls, trust_env=False).status_code == 401


# Lookup


@pytest.mark.parametrize(
    "path",
    ["/Orders", "/orders/", "//orders", "/orders//7", "/orders/7/", "/x/../orders", "/./orders",
     "/orders/%2e%2e/status", "/orders%2f7", "/orders%2F7", "/orders/7;x=1", "/orders\\7", "/orders/%00",
     "/orders/%zz", "/admin", "/orders/7/8"],
)  # fmt: skip
def test_a_path_that_is_not_the_plain_spelling_reaches_nothing(stack: Stack, upstream: Upstream, path: str) -> None:
    import http.client
    import ssl

    host = stack.url.removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=stack.ca), timeout=10)
    connection.putrequest("GET", path, skip_host=False)
    connection.putheader("Authorization", f"Bearer {stack.token(READ)}")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    assert status in (400, 404)
    assert not upstream.seen


def test_an_undeclared_method_gets_405(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    answer = client.put("/orders", json=ORDER, headers=bearer(stack.token(READ)))
    refused(answer, 405, upstream)
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-URL"])
def test_an_override_header_is_refused(stack: Stack, upstream: Upstream, client: httpx.Client, header: str) -> None:
    refused(client.get("/status", headers={header: "DELETE"}), 400, upstream)


# Validation


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=51", "limit=a", "limit=1&limit=2", "unknown=1", "limit=%31%30%30", "q=" + "a" * 41, "q=%00"],
)
def test_a_query_that_does_not_fit_is_refused(
    stack: Stack, upstream: Upstream, client: httpx.Client, query: str
) -> None:
    refused(client.get(f"/orders?{query}", headers=bearer(stack.token(READ))), 400, upstream)


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b'{"sku":"ABC-1234","qty":0}', "application/json", 400),
        (b'{"sku":"ABC-1234"}', "application/json", 400),
        (b'{"sku":"ABC-1234","qty":1,"qty":2}', "application/json", 400),
        (b'{"sku":"ABC-1234","qty":1,"is_admin":true}', "application/json", 400),
        (b'{"id":1,"sku":"ABC-1234","qty":1}', "application/json", 400),
        (b'{"sku":"ABC-1234","qty":1', "application/json", 400),
        (b'{"sku":"ABC-1234","qty":1e999}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"", "application/json", 400),
        (b'{"sku":"ABC-1234","qty":1}', "text/plain", 415),
        (b'{"sku":"ABC-1234","qty":1}', "application/xml", 415),
        (b'"' + b"a" * 1_100_000 + b'"', "application/json", 413),
    ],
)
def test_a_body_that_does_not_fit_is_refused(
    stack: Stack, upstream: Upstream, client: httpx.Client, body: bytes, media_type: str, status: int
) -> None:
    answer = client.post("/orders", content=body, headers={**bearer(stack.token(WRITE)), "Content-Type": media_type})
    refused(answer, status, upstream)


def test_a_body_where_none_is_declared_is_refused(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    answer = client.request("DELETE", "/orders/7", json={"a": 1}, headers=bearer(stack.token(WRITE)))
    refused(answer, 400, upstream)


def test_a_compressed_body_is_refused(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    import gzip

    headers = {**bearer(stack.token(WRITE)), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(client.post("/orders", content=gzip.compress(json.dumps(ORDER).encode()), headers=headers), 415, upstream)


@pytest.mark.parametrize(
    "reply",
    [
        json_reply([{**STORED, "cost_price": 3}]),
        json_reply([{"id": "seven"}]),
        json_reply({"not": "a list"}),
        Reply(body=b"[{]"),
        Reply(headers={"Content-Type": "text/html"}, body=b"<h1>debug</h1>"),
        json_reply([], 202),
        Reply(headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}, body=b"\x1f\x8b"),
    ],
)
def test_an_answer_that_does_not_fit_becomes_502_and_leaks_nothing(
    stack: Stack, upstream: Upstream, client: httpx.Client, reply: Reply
) -> None:
    upstream.answer = lambda _: reply
    answer = client.get("/orders", headers=bearer(stack.token(READ)))
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert "cost_price" not in answer.text
    assert "debug" not in answer.text


@pytest.mark.parametrize("status", [404, 500])
def test_an_undeclared_error_keeps_its_status_and_loses_its_text(
    stack: Stack, upstream: Upstream, client: httpx.Client, status: int
) -> None:
    upstream.answer = lambda _: Reply(
        status, {"Content-Type": "text/plain", "X-Debug": "1"}, b"Traceback (most recent call last)"
    )
    answer = client.get("/orders", headers=bearer(stack.token(READ)))
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert "x-debug" not in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"


# Limits


def test_a_client_gets_exactly_the_declared_number_and_then_429(
    stack: Stack, upstream: Upstream, client: httpx.Client
) -> None:
    made = stack.cli_json("client", "create", f"limited-{time.time_ns()}", "--scope", READ, "--json")
    token = httpx.post(
        stack.ready["token_endpoint"], data={"grant_type": "client_credentials"},
        auth=(made["client_id"], made["client_secret"]), verify=stack.tls, trust_env=False,
    ).json()["access_token"]  # fmt: skip
    answers = [client.get("/limited", headers=bearer(token)) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert len(upstream.seen) == 5
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "ratelimit" in answers[0].headers


# Answers


def test_a_refusal_tells_the_caller_nothing_and_the_operator_everything(stack: Stack, upstream: Upstream) -> None:
    token = stack.token(WRITE)
    with stack.http() as client:
        answer = client.post("/orders", json={"sku": "ABC-1234", "qty": 1000}, headers=bearer(token))
    problem = refused(answer, 400, upstream)
    for secret in ("qty", "maximum", "1000", "100"):
        assert secret not in problem["detail"] + problem["title"]
    event = stack.event(answer)
    assert event["layer"] == "validate_request"
    assert event["reason"] == "body_invalid"
    assert event["operation"] == "createOrder"
    assert event["pointer"].startswith("/components/schemas/Order") or "requestBody" in event["pointer"]
    assert "1000" not in event["evidence"]
    assert "/qty" in event["evidence"]
    assert event["client"]["client_id"] == stack.client(WRITE)["client_id"]
    told = stack.cli("explain", problem["instance"]).stdout
    assert "request validation" in told
    assert token not in json.dumps(event)


def test_no_credential_ever_reaches_the_log(stack: Stack, upstream: Upstream) -> None:
    token = stack.token(READ)
    with stack.http() as client:
        client.get("/nowhere/" + token, headers=bearer(token))
        client.get("/orders?access_token=" + token)
        client.get("/orders?unknown=" + token, headers=bearer(token))
        client.post("/orders", json={"sku": token}, headers=bearer(stack.token(WRITE)))
    time.sleep(0.5)
    from pathlib import Path

    log = (Path(stack.ready["state"]) / "events" / "events.jsonl").read_text()
    assert token not in log
    assert token not in stack.errors


# Streams


def test_a_download_streams_and_arrives_whole(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    body = bytes(range(256)) * 40_000
    upstream.answer = lambda _: Reply(headers={"Content-Type": "application/octet-stream"}, body=body)
    answer = client.get("/files/big.bin", headers=bearer(stack.token(READ)))
    assert answer.content == body


def test_an_upload_streams_and_arrives_whole(stack: Stack, upstream: Upstream, client: httpx.Client) -> None:
    body = bytes(range(256)) * 40_000
    upstream.answer = lambda _: Reply(204, {}, b"")
    headers = {**bearer(stack.token(WRITE)), "Content-Type": "application/octet-stream"}
    answer = client.put("/files/big.bin", content=body, headers=headers)
    assert answer.status_code == 204, answer.text
    assert upstream.seen[0].body == body
