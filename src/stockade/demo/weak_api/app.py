"""The shop's operations, as a Starlette application. What is wrong with each stands in its docstring."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from stockade.demo.weak_api import FOLDER
from stockade.demo.weak_api.store import open_shop, rows, user_of_subject, weak_hash
from stockade.demo.weak_api.wire import TrustingFrontDoor, claimed_identity, decoded_twice, own_name, read_payload

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

ORDER_FIELDS = ("id", "status", "total_cents", "items", "shipping", "address", "note")
ACCOUNT_FIELDS = ("id", "name", "email", "address", "role")
PREVIEW_CHARACTERS = 400


def build_app() -> Starlette:
    """Return a shop with a fresh database. Debug mode was left on: a failing operation shows its stack trace."""
    shop = Shop(open_shop())
    routes = [
        Route("/products", shop.search_products),
        Route("/products/{id}", shop.product, methods=["GET", "DELETE"]),
        Route("/products/{id}/stock", shop.set_stock, methods=["PUT"]),
        Route("/products/{id}/reviews", shop.add_review, methods=["POST"]),
        Route("/orders", shop.orders, methods=["GET", "POST"]),
        Route("/orders/{id}", shop.order, methods=["GET", "PATCH"]),
        Route("/users/me", shop.account, methods=["GET", "PATCH"]),
        Route("/users/me/cards", shop.cards),
        Route("/users/{id}", shop.profile, methods=["GET", "DELETE"]),
        Route("/login", shop.login, methods=["POST"]),
        Route("/password-resets", shop.reset_password, methods=["POST"]),
        Route("/downloads", shop.download),
        Route("/reports/sales", shop.sales_report),
        Route("/webhooks/test", shop.test_webhook, methods=["POST"]),
        Route("/internal/debug", shop.debug),
        Route("/admin/users", shop.all_users),
    ]
    return Starlette(debug=True, routes=routes, middleware=[Middleware(TrustingFrontDoor)])


def problem(status: int, title: str) -> Response:
    """Return an RFC 9457 problem document."""
    return JSONResponse({"title": title, "status": status}, status, media_type="application/problem+json")


class Shop:
    """The operations, around one database connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def caller(self, request: Request) -> int | None:
        """Return the user that the request claims to come from; None for nobody, who is let in all the same."""
        claim = claimed_identity(request)
        if claim is None:
            return None
        kind, value = claim
        return int(value) if kind == "user" else user_of_subject(self.db, value)

    async def search_products(self, request: Request) -> Response:
        """Injectable: the query is put together from text. `limit` has no bounds; `debug`, undeclared, shows costs."""
        query = request.query_params
        text, limit = query.get("q", ""), query.get("limit", "20")
        order = {"price": "price_cents"}.get(query.get("sort", ""), "name")
        columns = "id, name, description, price_cents" + (", cost_cents" if "debug" in query else "")
        sql = f"SELECT {columns} FROM products WHERE name LIKE '%{text}%' ORDER BY {order} LIMIT {limit}"  # noqa: S608 - the hole
        return JSONResponse(rows(self.db, sql))

    async def product(self, request: Request) -> Response:
        """Undeclared: DELETE, for anybody."""
        number = request.path_params["id"]
        if request.method == "DELETE":
            self.db.execute("DELETE FROM products WHERE id = ?", (number,))
            return JSONResponse({"deleted": number})
        found = rows(self.db, "SELECT id, name, description, price_cents FROM products WHERE id = ?", number)
        return JSONResponse(found[0]) if found else problem(404, "no such product")

    async def set_stock(self, request: Request) -> Response:
        """Never looks at the supplier's key."""
        payload = await read_payload(request)
        self.db.execute("UPDATE products SET stock = ? WHERE id = ?", (payload["quantity"], request.path_params["id"]))
        return Response(status_code=204)

    async def add_review(self, request: Request) -> Response:
        """Scriptable: the text goes into HTML as it came."""
        payload = await read_payload(request)
        cursor = self.db.execute(
            "INSERT INTO reviews (product_id, stars, text) VALUES (?, ?, ?)",
            (request.path_params["id"], payload["stars"], payload["text"]),
        )
        shown = {"id": cursor.lastrowid, "stars": payload["stars"], "html": f"<p>{payload['text']}</p>"}
        return JSONResponse(shown, 201)

    async def orders(self, request: Request) -> Response:
        """Nobody sees everybody's orders, and `user_id`, undeclared, picks whose."""
        if request.method == "POST":
            return await self.create_order(request)
        whose = request.query_params.get("user_id") or self.caller(request)
        status = request.query_params.get("status")
        found = rows(
            self.db,
            "SELECT * FROM orders WHERE (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR status = ?2) "
            "ORDER BY id DESC LIMIT 200",
            whose,
            status,
        )
        return JSONResponse([_shown_order(order) for order in found])

    async def create_order(self, request: Request) -> Response:
        """Take any quantity that Python reads as a number, and a total if one is sent along."""
        payload = await read_payload(request)
        total = 0.0
        for item in payload["items"]:
            prices = rows(self.db, "SELECT price_cents FROM products WHERE id = ?", item["product_id"])
            if not prices:
                return problem(400, "no such product")
            total += prices[0]["price_cents"] * float(item["quantity"])
        cursor = self.db.execute(
            "INSERT INTO orders (user_id, status, total_cents, items, shipping, address, note) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self.caller(request),
                payload.get("status", "new"),
                payload.get("total_cents", int(total)),
                json.dumps(payload["items"]),
                payload.get("shipping"),
                payload.get("address"),
                payload.get("note"),
            ),
        )
        order = rows(self.db, "SELECT * FROM orders WHERE id = ?", cursor.lastrowid)[0]
        return JSONResponse(_shown_order(order), 201)

    async def order(self, request: Request) -> Response:
        """Never asks whose order it is."""
        number = request.path_params["id"]
        if request.method == "PATCH":
            payload = await read_payload(request)
            self.db.execute("UPDATE orders SET address = ? WHERE id = ?", (payload["address"], number))
        found = rows(self.db, "SELECT * FROM orders WHERE id = ?", number)
        return JSONResponse(_shown_order(found[0])) if found else problem(404, "no such order")

    async def account(self, request: Request) -> Response:
        """Assign whatever columns the body names."""
        user_id = self.caller(request) or 1
        if request.method == "PATCH":
            for column, value in (await read_payload(request)).items():
                self.db.execute(f"UPDATE users SET {column} = ? WHERE id = ?", (value, user_id))  # noqa: S608 - the hole
        account = rows(self.db, "SELECT * FROM users WHERE id = ?", user_id)[0]
        return JSONResponse({field: account[field] for field in ACCOUNT_FIELDS})

    async def cards(self, request: Request) -> Response:
        """Show whole card numbers, as declared."""
        user_id = self.caller(request) or 1
        return JSONResponse(rows(self.db, "SELECT brand, number FROM cards WHERE user_id = ?", user_id))

    async def profile(self, request: Request) -> Response:
        """Answer with the whole row, not with the two declared properties. Undeclared: DELETE, for anybody."""
        number = request.path_params["id"]
        if request.method == "DELETE":
            self.db.execute("DELETE FROM users WHERE id = ?", (number,))
            return JSONResponse({"deleted": number})
        found = rows(self.db, "SELECT * FROM users WHERE id = ?", number)
        return JSONResponse(found[0]) if found else problem(404, "no such user")

    async def login(self, request: Request) -> Response:
        """Injectable as well, and takes guesses as fast as they come."""
        payload = await read_payload(request)
        email, digest = payload["email"], weak_hash(payload["password"])
        sql = f"SELECT id FROM users WHERE email = '{email}' AND password_hash = '{digest}'"  # noqa: S608 - the hole
        found = rows(self.db, sql)
        return JSONResponse({"user_id": found[0]["id"]}) if found else problem(401, "unknown user or wrong password")

    async def reset_password(self, request: Request) -> Response:
        """Build the link from the host name that the request brings."""
        payload = await read_payload(request)
        link = f"http://{own_name(request)}/reset?token=8f3a"
        return JSONResponse({"mail": f"To: {payload['email']}. Set a new password: {link}"}, 202)

    async def download(self, request: Request) -> Response:
        """Follow `..` out of the folder."""
        name = decoded_twice(request.query_params["file"])
        path = FOLDER / "files" / name
        if not path.is_file():
            return problem(404, "no such file")
        media_type = "text/csv" if name.endswith(".csv") else "text/plain"
        return PlainTextResponse(path.read_text("utf-8", "replace"), media_type=media_type)

    async def sales_report(self, request: Request) -> Response:
        """Crash on the thirteenth month."""
        year, month = map(int, request.query_params["month"].split("-"))
        label = dt.date(year, month, 1).isoformat()[:7]
        totals = rows(
            self.db,
            "SELECT COUNT(*) AS orders, CAST(COALESCE(SUM(total_cents), 0) AS INTEGER) AS total_cents FROM orders",
        )
        return JSONResponse({"month": label, **totals[0]})

    async def test_webhook(self, request: Request) -> Response:
        """Fetch any address for the caller, its own inside included (loopback only, or the demo would reach out)."""
        url = (await read_payload(request))["url"]
        if not ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback:
            return problem(400, "the demo reaches this machine only")
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            answer = await client.get(url)
        return JSONResponse({"status": answer.status_code, "preview": answer.text[:PREVIEW_CHARACTERS]})

    async def debug(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """Undeclared, and forgotten."""
        secrets = (FOLDER / "secrets.ini").read_text("utf-8")
        return JSONResponse({"debug": True, "secrets": secrets, "pid": os.getpid(), "database": ":memory:"})

    async def all_users(self, request: Request) -> Response:  # noqa: ARG002 - Starlette passes it
        """Undeclared, meant for staff, open to all."""
        return JSONResponse(rows(self.db, "SELECT * FROM users"))


def _shown_order(order: dict[str, Any]) -> dict[str, Any]:
    shown = {field: order[field] for field in ORDER_FIELDS if order[field] is not None}
    return {**shown, "items": json.loads(order["items"])}
