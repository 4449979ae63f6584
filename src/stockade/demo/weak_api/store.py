"""The shop's database: SQLite in memory, filled with made-up people."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, subject TEXT UNIQUE, email TEXT, name TEXT, address TEXT, role TEXT,
                    password_hash TEXT, internal_note TEXT);
CREATE TABLE cards (user_id INTEGER, brand TEXT, number TEXT);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, description TEXT, price_cents INTEGER, cost_cents INTEGER,
                       stock INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER, status TEXT, total_cents INTEGER, items TEXT,
                     shipping TEXT, address TEXT, note TEXT);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, product_id INTEGER, stars INTEGER, text TEXT);
"""

PEOPLE = (
    (1, "admin@shop.example", "Ada Admin", "admin", "letmein", "owner of the shop"),
    (2, "bob@shop.example", "Bob Buyer", "customer", "football", "complains a lot, pays late"),
    (3, "mallory@shop.example", "Mallory Marsh", "customer", "qwerty", "suspected of fraud"),
)

ARTICLES = (("Kettle", 3900), ("Teapot", 2450), ("Tea towel", 790), ("Mug", 990), ("Toaster", 4450), ("Tray", 1290))
COLOURS = ("black", "blue", "brown", "cream", "green", "grey", "lilac", "mint", "orange", "pink")


def weak_hash(password: str) -> str:
    """MD5 without salt, as the shop stores passwords: a dump of these is as good as the passwords."""
    return hashlib.md5(password.encode()).hexdigest()  # noqa: S324 - that it is weak is what the demo shows


def open_shop() -> sqlite3.Connection:
    """Return a new, filled database. It lives as long as the connection."""
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(SCHEMA)
    for number, email, name, role, password, note in PEOPLE:
        db.execute(
            "INSERT INTO users VALUES (?, NULL, ?, ?, '1 Market Street', ?, ?, ?)",
            (number, email, name, role, weak_hash(password), note),
        )
        _add_card(db, number)
    for colour in COLOURS * 2:
        db.executemany(
            "INSERT INTO products (name, description, price_cents, cost_cents, stock) VALUES (?, ?, ?, ?, 10)",
            [(f"{name}, {colour}", f"A {colour} {name.lower()}", price, price // 3) for name, price in ARTICLES],
        )
    _seed_orders(db)
    return db


def _add_card(db: sqlite3.Connection, user_id: int) -> None:
    db.execute("INSERT INTO cards VALUES (?, 'Visa', '4111111111111111')", (user_id,))


def _seed_orders(db: sqlite3.Connection) -> None:
    item = '[{"product_id": 1, "quantity": 1}]'
    db.executemany(
        "INSERT INTO orders VALUES (?, ?, 'paid', 3900, ?, 'standard', ?, ?)",
        [
            (1001, 1, item, "1 Market Street", "for the office"),
            (1002, 2, item, "2 Harbour Lane", "leave it with the neighbour"),
            (1003, 3, item, "3 Mill Road", "gift wrapped"),
        ],
    )


def user_of_subject(db: sqlite3.Connection, subject: str) -> int:
    """Return the user of a token's `sub`; whoever comes for the first time gets an account."""
    row = db.execute("SELECT id FROM users WHERE subject = ?", (subject,)).fetchone()
    if row:
        return int(row["id"])
    cursor = db.execute(
        "INSERT INTO users (subject, email, name, role, password_hash, internal_note) "
        "VALUES (?, 'app@shop.example', 'New customer', 'customer', ?, 'signed up by token')",
        (subject, weak_hash(subject)),
    )
    user_id = int(cursor.lastrowid or 0)
    _add_card(db, user_id)
    return user_id


def rows(db: sqlite3.Connection, sql: str, *values: Any) -> list[dict[str, Any]]:
    """Run a query and return its rows as plain dictionaries."""
    return [dict(row) for row in db.execute(sql, values)]
