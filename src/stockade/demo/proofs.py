"""How an answer shows that an attack worked: each proof returns what was got, in a few words, or None.

A proof looks at what the attacker wanted, never at the status alone where there is more to see: the same proof judges
the API alone and the gate.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stockade.demo.calls import Answer

Proof = Callable[[Answer], str | None]

MD5 = re.compile(r"\b[0-9a-f]{32}\b")


def accepted(what: str, *statuses: int) -> Proof:
    """Prove that the call went through with one of `statuses`."""
    return lambda answer: what if answer.status in statuses else None


def contains(what: str, *needles: str) -> Proof:
    """Prove that all needles stand in the answer's body."""
    return lambda answer: what if all(needle in answer.text for needle in needles) else None


def field(what: str, name: str, test: Callable[[object], bool]) -> Proof:
    """Prove that the JSON object that came back has a property that passes the test."""

    def proof(answer: Answer) -> str | None:
        document = answer.json if ok(answer) else None
        return what if isinstance(document, dict) and name in document and test(document[name]) else None

    return proof


def number_below(limit: float) -> Callable[[object], bool]:
    """Return a test: a number below the limit."""
    return lambda value: isinstance(value, int | float) and value < limit


def longer_than(length: int) -> Callable[[object], bool]:
    """Return a test: a string longer than this."""
    return lambda value: isinstance(value, str) and len(value) > length


def same(wanted: object) -> Callable[[object], bool]:
    """Return a test: equal to this."""
    return lambda value: value == wanted


def more_rows_than(count: int) -> Proof:
    """Find a list with more entries than the description allows to ask for."""

    def proof(answer: Answer) -> str | None:
        rows = answer.json
        return f"{len(rows)} rows at once" if isinstance(rows, list) and len(rows) > count else None

    return proof


def password_hashes(answer: Answer) -> str | None:
    """Find password hashes (MD5) in a successful answer."""
    found = MD5.findall(answer.text) if ok(answer) else []
    return f"{len(found)} password hash{'es' if len(found) > 1 else ''}" if found else None


def orders_of_others(answer: Answer) -> str | None:
    """Find orders that only their owners should see: those of Ada (1001) and Bob (1002)."""
    document = answer.json
    orders = document if isinstance(document, list) else [document]
    foreign = [order for order in orders if isinstance(order, dict) and order.get("id") in (1001, 1002)]
    return f"{len(foreign)} order{'s' if len(foreign) > 1 else ''} of others" if foreign else None


def debug_page(answer: Answer) -> str | None:
    """Find the secrets on the debug page."""
    return "the payment key" if "demo-only-sk-live" in answer.text else None


def stack_trace(answer: Answer) -> str | None:
    """Find a Python stack trace."""
    return "a stack trace" if "Traceback (most recent call last)" in answer.text else None


def welcome_to_evil(answer: Answer) -> str | None:
    """Find CORS headers that let another origin use the caller's credentials."""
    allowed = answer.headers.get("access-control-allow-origin") == "https://evil.example"
    return "evil.example is let in" if allowed else None


def second_answer(answer: Answer) -> str | None:
    """Prove that the request hidden in another one's body was answered as well."""
    hidden = any(b"demo-only-sk-live" in body for body in answer.bodies[1:])
    return "hidden request answered" if hidden else None


def all_served(answer: Answer) -> str | None:
    """Prove that a whole burst was let through."""
    served = sum(map(_fine, answer.statuses))
    return f"{served} calls in a row" if served == len(answer.statuses) > 1 else None


def password_found(answer: Answer) -> str | None:
    """Prove that one guess of a burst was right."""
    return f"found after {len(answer.statuses)} guesses" if any(map(_fine, answer.statuses)) else None


def ok(answer: Answer) -> bool:
    """Tell whether the status is 2xx."""
    return _fine(answer.status)


def _fine(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - 2xx
