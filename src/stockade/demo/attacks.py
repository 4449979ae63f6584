"""The attacks of `stockade demo`, one entry each, in the order of the OWASP API Security Top 10 (2023).

`layer` is the layer that has to stop the attack (docs/contracts.md §2), or one still to come. The same call goes to
the API alone and through the gate, the same proof judges both answers.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stockade.demo import proofs
from stockade.demo.calls import Call, Caller, Header, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.demo.proofs import Proof

Layer = Literal[
    "framing",
    "lookup",
    "limits",
    "authenticate",
    "authorize",
    "validate_request",
    "validate_response",
    "upstream",
    "detect",
    "own",
    "mask",
]
LAYERS_TO_COME: frozenset[str] = frozenset({"detect", "own", "mask"})

OWASP = {
    "API1": "API1:2023 Broken Object Level Authorization",
    "API2": "API2:2023 Broken Authentication",
    "API3": "API3:2023 Broken Object Property Level Authorization",
    "API4": "API4:2023 Unrestricted Resource Consumption",
    "API5": "API5:2023 Broken Function Level Authorization",
    "API6": "API6:2023 Unrestricted Access to Sensitive Business Flows",
    "API7": "API7:2023 Server Side Request Forgery",
    "API8": "API8:2023 Security Misconfiguration",
    "API9": "API9:2023 Improper Inventory Management",
    "API10": "API10:2023 Unsafe Consumption of APIs",
}

JSON: Header = ("Content-Type", "application/json")
FORM: Header = ("Content-Type", "application/x-www-form-urlencoded")
CLOSE = "Connection: close"
EVIL: Header = ("Origin", "https://evil.example")

READ_ORDERS = Caller(("orders:read",))
WRITE_ORDERS = Caller(("orders:write",))
READ_ACCOUNT = Caller(("account:read",))
WRITE_ACCOUNT = Caller(("account:write",))
BROWSE = Caller(("catalogue:read",))
REPORTS = Caller(("reports:read",))

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Attack:
    """`build` returns None where its credential cannot be had. `harmless` says why a served call gained nothing."""

    id: str
    title: str
    owasp: str
    layer: Layer
    build: Callable[[Place], Call | None]
    proof: Proof
    harmless: str = ""

    @property
    def to_come(self) -> bool:
        """Whether the layer that will stop it is still to be built."""
        return self.layer in LAYERS_TO_COME


@dataclass(frozen=True, slots=True)
class Legitimate:
    """A call that has to work at both ends. `remember` keeps the `id` of what it made, for later calls."""

    id: str
    title: str
    build: Callable[[Place], Call]
    status: int
    remember: str = ""


def _get(target: str, caller: Caller | None = None, *headers: Header) -> Callable[[Place], Call]:
    return lambda _: Call("GET", target, headers, b"", caller)


def _send(method: str, target: str, payload: Any, caller: Caller | None, *headers: Header) -> Callable[[Place], Call]:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    if not any(name == "Content-Type" for name, _ in headers):
        headers = (JSON, *headers)
    return lambda _: Call(method, target, headers, body, caller)


def _order(quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"items": [{"product_id": 1, "quantity": quantity}], "shipping": "standard", **more}


def _bearer(token: str | None, target: str = "/orders") -> Call | None:
    return Call("GET", target, (("Authorization", f"Bearer {token}"),)) if token else None


def _forged_jwt(_: Place) -> Call | None:
    parts = ({"alg": "none", "typ": "at+jwt"}, {"iss": "https://localhost:8444", "sub": "admin", "user_id": 1})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return _bearer(".".join([*encoded, ""]), "/users/me")


def _token_in_query(place: Place) -> Call:
    return Call("GET", f"/orders?access_token={place.credentials.access_token(READ_ORDERS.scopes, READ_ORDERS.client)}")


def _two_authorizations(place: Place) -> Call:
    token = place.credentials.access_token(READ_ORDERS.scopes, READ_ORDERS.client)
    return Call("GET", "/orders", (("Authorization", f"Bearer {token}"), ("Authorization", "Basic YWRtaW46YWRtaW4=")))


def _head(place: Place, request_line: str, caller: Caller, *lines: str) -> list[str]:
    identity = [f"{name}: {value}" for name, value in place.identity(caller)]
    return [request_line, f"Host: {place.authority}", *identity, *lines]


def _raw(lines: list[str], body: bytes = b"", newline: str = "\r\n") -> Call:
    return Call(raw=newline.join([*lines, "", ""]).encode("latin-1") + body)


def _chunked(body: bytes, size: str = "{:x}") -> bytes:
    return size.format(len(body)).encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"


def _hidden(place: Place) -> bytes:
    return f"GET /internal/debug HTTP/1.1\r\nHost: {place.authority}\r\nConnection: close\r\n\r\n".encode()


def _cl_te(place: Place) -> Call:
    body = _chunked(json.dumps(_order()).encode()) + _hidden(place)
    framing = (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked")
    return _raw(_head(place, "POST /orders HTTP/1.1", WRITE_ORDERS, "Content-Type: application/json", *framing), body)


def _te_obfuscated(place: Place) -> Call:
    body = _chunked(json.dumps(_order()).encode())
    lines = ("Content-Type: application/json", "Transfer-Encoding: gzip, chunked", CLOSE)
    return _raw(_head(place, "POST /orders HTTP/1.1", WRITE_ORDERS, *lines), body)


def _chunk_size_spaces(place: Place) -> Call:
    body = _chunked(json.dumps(_order()).encode(), "{:x}  ")
    lines = ("Content-Type: application/json", "Transfer-Encoding: chunked", CLOSE)
    return _raw(_head(place, "POST /orders HTTP/1.1", WRITE_ORDERS, *lines), body)


def _bare_lf(place: Place) -> Call:
    lines = [*_head(place, "GET /users/me HTTP/1.1", READ_ACCOUNT, CLOSE), "X-Note: hello\nX-User-Id: 1"]
    return _raw(lines)


def _two_hosts(place: Place) -> Call:
    body = b"email=bob%40shop.example"
    lines = ("Host: evil.example", f"Content-Type: {FORM[1]}", f"Content-Length: {len(body)}", CLOSE)
    return _raw(_head(place, "POST /password-resets HTTP/1.1", WRITE_ACCOUNT, *lines), body)


def _brute_force(_: Place) -> Call:
    guesses = [f"guess-{number}" for number in range(29)] + ["football"]
    bodies = tuple(json.dumps({"email": "bob@shop.example", "password": guess}).encode() for guess in guesses)
    return Call("POST", "/login", (JSON,), caller=Caller(("account:read",), "guesser"), burst=bodies)


def _ssrf(place: Place) -> Call:
    return _send("POST", "/webhooks/test", {"url": place.memory["api"] + "/internal/debug"}, WRITE_ORDERS)(place)


def _webhook(place: Place) -> Call:
    return _send("POST", "/webhooks/test", {"url": place.memory["api"] + "/products?limit=1"}, WRITE_ORDERS)(place)


def _own_order(method: str) -> Callable[[Place], Call]:
    def build(place: Place) -> Call:
        target = f"/orders/{place.memory.get('order', 0)}"
        if method == "GET":
            return Call("GET", target, caller=READ_ORDERS)
        return _send(method, target, {"address": "4 Mill Road"}, WRITE_ORDERS)(place)

    return build


def _report_stock(place: Place) -> Call:
    key = ("X-API-Key", place.credentials.api_key())
    return _send("PUT", "/products/3/stock", {"quantity": 40}, None, key)(place)


SQL_DUMP = "/products?q=zz%27%20UNION%20SELECT%20id,email,password_hash,0%20FROM%20users%20--"

ATTACKS: tuple[Attack, ...] = (
    # objects of others
    Attack("bola-read", "read another customer's order", "API1", "own", _get("/orders/1001", READ_ORDERS),
           proofs.orders_of_others),
    Attack("bola-write", "redirect another customer's order", "API1", "own",
           _send("PATCH", "/orders/1002", {"address": "Mallory, 3 Mill Road"}, WRITE_ORDERS), proofs.orders_of_others),
    Attack("bola-filter", "undeclared filter ?user_id=1", "API1", "validate_request",
           _get("/orders?user_id=1", READ_ORDERS), proofs.orders_of_others),
    # who are you
    Attack("no-token", "no token at all", "API2", "authenticate", _get("/orders"), proofs.orders_of_others),
    Attack("garbage-token", "a made-up token", "API2", "authenticate",
           lambda _: _bearer("stk_at_" + "A" * 49), proofs.orders_of_others),
    Attack("forged-jwt", "a forged JWT, alg none, as the admin", "API2", "authenticate", _forged_jwt,
           proofs.contains("logged in as admin", "admin@shop.example")),
    Attack("expired-token", "an expired token", "API2", "authenticate",
           lambda place: _bearer(place.credentials.expired_token(READ_ORDERS.scopes)), proofs.orders_of_others),
    Attack("revoked-token", "a revoked token", "API2", "authenticate",
           lambda place: _bearer(place.credentials.revoked_token(READ_ORDERS.scopes)), proofs.orders_of_others),
    Attack("foreign-token", "a token for another API", "API2", "authenticate",
           lambda place: _bearer(place.credentials.foreign_token(READ_ORDERS.scopes)), proofs.orders_of_others),
    Attack("token-in-query", "a valid token in the query string", "API2", "authenticate", _token_in_query,
           proofs.orders_of_others),
    Attack("two-authorizations", "two Authorization headers", "API2", "framing", _two_authorizations,
           proofs.orders_of_others),
    Attack("wrong-api-key", "a made-up API key", "API2", "authenticate",
           _send("PUT", "/products/1/stock", {"quantity": 0}, None, ("X-API-Key", "stk_ak_" + "B" * 49)),
           proofs.accepted("stock set to 0", 204)),
    Attack("user-header", "X-User-Id: 1, the admin's", "API2", "upstream",
           _get("/users/me", READ_ACCOUNT, ("X-User-Id", "1")),
           proofs.contains("logged in as admin", "admin@shop.example"), "header removed by the gate"),
    Attack("user-header-twin", "X_User_Id: 1, with underscores", "API2", "framing",
           _get("/users/me", READ_ACCOUNT, ("X_User_Id", "1")),
           proofs.contains("logged in as admin", "admin@shop.example"), "header removed by the gate"),
    Attack("brute-force", "guess a password, 30 tries", "API2", "limits", _brute_force, proofs.password_found),
    # what an object says and takes
    Attack("mass-assignment", "PATCH /users/me with role: admin", "API3", "validate_request",
           _send("PATCH", "/users/me", {"name": "Mallory", "role": "admin"}, WRITE_ACCOUNT),
           proofs.field("role is now admin", "role", proofs.same("admin"))),
    Attack("read-only", "order with its own total (readOnly)", "API3", "validate_request",
           _send("POST", "/orders", _order(total_cents=1), WRITE_ORDERS),
           proofs.field("a kettle for 1 cent", "total_cents", proofs.same(1))),
    Attack("excessive-data", "a public profile says too much", "API3", "validate_response",
           _get("/users/2", READ_ACCOUNT), proofs.password_hashes),
    Attack("debug-parameter", "undeclared parameter ?debug=1", "API3", "validate_request",
           _get("/products?debug=1"), proofs.contains("purchase prices", "cost_cents")),
    Attack("whole-cards", "card numbers in full, as declared", "API3", "mask", _get("/users/me/cards", READ_ACCOUNT),
           proofs.contains("a whole card number", "4111111111111111")),
    # how much
    Attack("flood", "260 calls in a row", "API4", "limits",
           lambda _: Call("GET", "/products/1", caller=Caller(BROWSE.scopes, "flooder"), burst=(b"",) * 260),
           proofs.all_served),
    Attack("limit-too-high", "?limit=1000000", "API4", "validate_request", _get("/products?limit=1000000"),
           proofs.more_rows_than(50)),
    Attack("limit-twice", "?limit=1&limit=1000000", "API4", "validate_request",
           _get("/products?limit=1&limit=1000000"), proofs.more_rows_than(50)),
    Attack("oversized-body", "a body of 8 MiB", "API4", "validate_request",
           _send("POST", "/orders", _order(note="A" * 8 * MEBIBYTE), WRITE_ORDERS),
           proofs.accepted("8 MiB stored", 201)),
    Attack("zip-bomb", "2 MiB in 2 KB of gzip", "API4", "validate_request",
           _send("POST", "/orders", gzip.compress(json.dumps(_order(note="A" * 2 * MEBIBYTE)).encode()), WRITE_ORDERS,
                 ("Content-Encoding", "gzip")), proofs.accepted("2 MiB stored", 201)),
    Attack("deep-json", "JSON, 50,000 levels deep", "API4", "validate_request",
           _send("POST", "/orders", b"[" * 50_000 + b"]" * 50_000, WRITE_ORDERS),
           proofs.contains("the parser crashes", "RecursionError")),
    Attack("long-string", "a name of 10,000 characters", "API4", "validate_request",
           _send("PATCH", "/users/me", {"name": "A" * 10_000}, WRITE_ACCOUNT),
           proofs.field("stored", "name", proofs.longer_than(60))),
    # what a caller may do
    Attack("wrong-scope", "place an order with a reader's token", "API5", "authorize",
           _send("POST", "/orders", _order(), BROWSE), proofs.accepted("order placed", 201)),
    Attack("report-scope", "sales report with a shopper's token", "API5", "authorize",
           _get("/reports/sales?month=2026-10", READ_ORDERS), proofs.contains("sales figures", "total_cents")),
    Attack("undeclared-method", "DELETE /users/999999", "API5", "lookup",
           lambda _: Call("DELETE", "/users/999999", caller=WRITE_ACCOUNT), proofs.contains("user deleted", "deleted")),
    Attack("method-override", "GET with X-HTTP-Method-Override: DELETE", "API5", "framing",
           _get("/products/120", BROWSE, ("X-HTTP-Method-Override", "DELETE")),
           proofs.contains("product deleted", "deleted"), "header removed by the gate"),
    Attack("method-parameter", "GET ?_method=DELETE", "API5", "validate_request",
           _get("/products/119?_method=DELETE", BROWSE), proofs.contains("product deleted", "deleted")),
    Attack("negative-quantity", "order of -5 kettles", "API6", "validate_request",
           _send("POST", "/orders", _order(-5), WRITE_ORDERS),
           proofs.field("the shop pays the customer", "total_cents", proofs.number_below(0))),
    Attack("text-quantity", 'order of "0.0001" kettles, as text', "API6", "validate_request",
           _send("POST", "/orders", _order("0.0001"), WRITE_ORDERS),
           proofs.field("a kettle for nothing", "total_cents", proofs.same(0))),
    Attack("ssrf", "webhook address inside the API's network", "API7", "detect", _ssrf, proofs.debug_page),
    # what the server lets happen
    Attack("sql-injection", "SQL injection in the search field", "API8", "detect", _get(SQL_DUMP),
           proofs.password_hashes),
    Attack("sql-login", "SQL injection instead of a password", "API8", "detect",
           _send("POST", "/login", {"email": "admin@shop.example' --", "password": "x"}, READ_ACCOUNT),
           proofs.contains("logged in as admin", '"user_id":1')),
    Attack("stored-script", "a script in a review", "API8", "detect",
           _send("POST", "/products/1/reviews", {"stars": 5, "text": "<script>alert(1)</script>"}, WRITE_ORDERS),
           proofs.contains("a script in the page", "<script>")),
    Attack("sql-error", "a quote, to see the SQL", "API8", "validate_response", _get("/products?q=%27"),
           proofs.stack_trace),
    Attack("stack-trace", "crash on month 13", "API8", "validate_response",
           _get("/reports/sales?month=2026-13", REPORTS), proofs.stack_trace),
    Attack("path-traversal", "download ../secrets.ini", "API8", "validate_request",
           _get("/downloads?file=../secrets.ini", BROWSE), proofs.debug_page),
    Attack("double-encoding", "download %252e%252e%252fsecrets.ini", "API8", "validate_request",
           _get("/downloads?file=%252e%252e%252fsecrets.ini", BROWSE), proofs.debug_page),
    Attack("duplicate-key", "a JSON key twice", "API8", "validate_request",
           _send("POST", "/orders", b'{"items": [{"product_id": 1, "quantity": 1}], "shipping": "standard", '
                 b'"shipping": "express"}', WRITE_ORDERS),
           proofs.field("the second one counts", "shipping", proofs.same("express"))),
    Attack("media-type", "JSON sent as text/plain", "API8", "validate_request",
           _send("POST", "/orders", _order(), WRITE_ORDERS, ("Content-Type", "text/plain")),
           proofs.accepted("order placed", 201)),
    Attack("charset", "a body in EBCDIC, to pass by filters", "API8", "validate_request",
           _send("PATCH", "/users/me", json.dumps({"name": "Eve"}).encode("cp037"), WRITE_ACCOUNT,
                 ("Content-Type", "application/json; charset=cp037")),
           proofs.field("read and stored", "name", proofs.same("Eve"))),
    Attack("cors", "preflight from https://evil.example", "API8", "lookup",
           lambda _: Call("OPTIONS", "/orders", (EVIL, ("Access-Control-Request-Method", "POST"))),
           proofs.welcome_to_evil),
    Attack("trace", "TRACE, to read back what proxies add", "API8", "framing",
           lambda _: Call("TRACE", "/orders", (("X-Probe", "echo-me"),), caller=READ_ORDERS),
           proofs.contains("headers echoed", "echo-me")),
    Attack("forwarded-host", "X-Forwarded-Host: evil.example", "API8", "upstream",
           _send("POST", "/password-resets", b"email=bob%40shop.example", WRITE_ACCOUNT, FORM,
                 ("X-Forwarded-Host", "evil.example")),
           proofs.contains("link to evil.example", "evil.example"), "header rewritten by the gate"),
    Attack("two-hosts", "two Host headers, the second evil.example", "API8", "framing", _two_hosts,
           proofs.contains("link to evil.example", "evil.example")),
    Attack("smuggling-cl-te", "smuggling: both lengths (CL.TE)", "API8", "framing", _cl_te, proofs.second_answer),
    Attack("smuggling-te", "smuggling: Transfer-Encoding gzip, chunked", "API8", "framing", _te_obfuscated,
           proofs.accepted("order placed", 201)),
    Attack("smuggling-chunk", "smuggling: spaces in a chunk size", "API8", "framing", _chunk_size_spaces,
           proofs.accepted("order placed", 201)),
    Attack("smuggling-lf", "smuggling: a header behind a bare LF", "API8", "framing", _bare_lf,
           proofs.contains("logged in as admin", "admin@shop.example")),
    # what nobody remembers
    Attack("undeclared-path", "GET /internal/debug", "API9", "lookup", _get("/internal/debug", BROWSE),
           proofs.debug_page),
    Attack("undeclared-admin", "GET /admin/users", "API9", "lookup", _get("/admin/users", BROWSE),
           proofs.password_hashes),
    Attack("original-url", "X-Original-URL: /internal/debug", "API9", "framing",
           _get("/products", None, ("X-Original-URL", "/internal/debug")), proofs.debug_page,
           "header removed by the gate"),
    Attack("dot-segments", "/products/../internal/debug", "API9", "lookup",
           _get("/products/../internal/debug", BROWSE), proofs.debug_page),
    Attack("encoded-dots", "/products/%2e%2e/internal/debug", "API9", "lookup",
           _get("/products/%2e%2e/internal/debug", BROWSE), proofs.debug_page),
    Attack("encoded-slash", "/products/..%2finternal%2fdebug", "API9", "lookup",
           _get("/products/..%2finternal%2fdebug", BROWSE), proofs.debug_page),
    Attack("encoded-twice", "/products/..%252finternal/debug", "API9", "lookup",
           _get("/products/..%252finternal/debug", BROWSE), proofs.debug_page),
    Attack("backslash", "/products/..%5cinternal/debug", "API9", "lookup",
           _get("/products/..%5cinternal/debug", BROWSE), proofs.debug_page),
    Attack("double-slash", "//internal//debug", "API9", "lookup", _get("//internal//debug", BROWSE), proofs.debug_page),
    Attack("case", "/Internal/DEBUG", "API9", "lookup", _get("/Internal/DEBUG", BROWSE), proofs.debug_page),
    Attack("trailing-slash", "/internal/debug/", "API9", "lookup", _get("/internal/debug/", BROWSE), proofs.debug_page),
    Attack("semicolon", "/products/..;/internal/debug", "API9", "lookup", _get("/products/..;/internal/debug", BROWSE),
           proofs.debug_page),
)  # fmt: skip

LEGITIMATE: tuple[Legitimate, ...] = (
    Legitimate("browse", "browse the catalogue, without a token", _get("/products"), 200),
    Legitimate("search", "search, sorted and limited", _get("/products?q=tea%20towel&limit=5&sort=price"), 200),
    Legitimate("product", "look at a product", _get("/products/1", BROWSE), 200),
    Legitimate("order", "place an order",
               _send("POST", "/orders", _order(2, note="Größe: 2 Stück", address="3 Mill Road"), WRITE_ORDERS), 201,
               remember="order"),
    Legitimate("orders", "list own orders", _get("/orders?status=new", READ_ORDERS), 200),
    Legitimate("own-order", "read the order just placed", _own_order("GET"), 200),
    Legitimate("change-order", "change its address", _own_order("PATCH"), 200),
    Legitimate("account", "look at the own account", _get("/users/me", READ_ACCOUNT), 200),
    Legitimate("rename", "change the own name",
               _send("PATCH", "/users/me", {"name": "Mary O'Hara"}, WRITE_ACCOUNT), 200),
    Legitimate("review", "review a product",
               _send("POST", "/products/2/reviews", {"stars": 4, "text": "Pours well"}, WRITE_ORDERS), 201),
    Legitimate("download", "download the price list", _get("/downloads?file=price-list.csv", BROWSE), 200),
    Legitimate("report", "read the sales of a month", _get("/reports/sales?month=2026-10", REPORTS), 200),
    Legitimate("login", "check a password",
               _send("POST", "/login", {"email": "bob@shop.example", "password": "football"}, READ_ACCOUNT), 200),
    Legitimate("reset", "ask for a reset link, as a form",
               _send("POST", "/password-resets", b"email=bob%40shop.example", WRITE_ACCOUNT, FORM), 202),
    Legitimate("webhook", "try a webhook", _webhook, 200),
    Legitimate("stock", "report stock, with an API key", _report_stock, 204),
)  # fmt: skip
