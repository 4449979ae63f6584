"""Passwords: argon2id off the event loop, a few at a time, and which ones may be chosen.

NIST SP 800-63B §5.1.1.2: at least 8 characters, any of Unicode, normalised (NFKC), compared with common and breached
ones, no composition rules, no expiry. RFC 9106 §4: argon2id; m=19 MiB, t=2, p=1 is OWASP's first choice.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from stockade.identity.errors import PasswordsBusy
from stockade.identity.people.breached import is_breached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Result = TypeVar("Result")

MIN_CHARS = 8
# NIST SP 800-63B-4 §3.1.1.2: where it is the only factor.
MIN_CHARS_ALONE = 15
MAX_CHARS = 256
WAITING_EACH = 16
_MIN_WORD_CHARS = 4
_MAX_PERIOD = 4


class PasswordProblem(StrEnum):
    """Why a password cannot be chosen; the pages have a sentence for each."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    UNUSABLE = "unusable"
    COMMON = "common"
    HOLDS_NAME = "holds_name"
    PATTERN = "pattern"


class Passwords:
    """Hashes and verifies, as many at a time as there are cores; beyond a short queue callers are turned away."""

    def __init__(self, workers: int | None = None, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool: ThreadPoolExecutor | None = None
        self._running = 0
        # Whoever comes by a thread of their own (administration) waits here.
        self._room = threading.BoundedSemaphore(self._workers)
        self._decoy: str | None = None
        # How often the work was done: a wrong name must cost what a wrong password does.
        self.computed = 0

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the one. Without a hash (nobody of that name) the same work ends in False.

        Raises PasswordsBusy.
        """
        return await self._off_loop(lambda: self.verify_now(hashed, password))

    async def hash(self, password: str) -> str:
        """The hash to store, in PHC form. Raises PasswordsBusy."""
        return await self._off_loop(lambda: self.hash_now(password))

    def verify_now(self, hashed: str | None, password: str) -> bool:
        """`verify`, in this thread."""
        if self._decoy is None:
            self._decoy = self._hasher.hash(secrets.token_urlsafe(32))
        self.computed += 1
        try:
            with self._room:
                matches = self._hasher.verify(self._decoy if hashed is None else hashed, normalised(password))
        except (Argon2Error, InvalidHashError):
            return False
        return matches and hashed is not None

    def hash_now(self, password: str) -> str:
        """`hash`, in this thread."""
        self.computed += 1
        with self._room:
            return self._hasher.hash(normalised(password))

    def outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(hashed)

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        if self._running >= self._workers * (1 + WAITING_EACH):
            raise PasswordsBusy("too many passwords are being checked")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, "passwords")
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Counted out when the work ends, not when its caller goes away.
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[Result]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()


def normalised(password: str) -> bytes:
    """What is hashed: NIST SP 800-63B §5.1.1.2 asks for NFKC before."""
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")


def usable(password: str) -> bool:
    """Whether anybody can have this password: the bound that a sign-in checks before any work."""
    return 0 < len(password) <= MAX_CHARS and len(unicodedata.normalize("NFKC", password)) <= MAX_CHARS


def problem_of(password: str, names: Iterable[str | None], min_chars: int = MIN_CHARS) -> PasswordProblem | None:
    """What is wrong with a new password; None: it will do. `names`: of the person and of the service."""
    if not usable(password) and password:
        return PasswordProblem.TOO_LONG
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in password):
        return PasswordProblem.UNUSABLE
    text = unicodedata.normalize("NFKC", password)
    if len(text) < min_chars:
        return PasswordProblem.TOO_SHORT
    folded = text.casefold()
    if _is_pattern(folded):
        return PasswordProblem.PATTERN
    if any(word in folded for word in _words(names)):
        return PasswordProblem.HOLDS_NAME
    return PasswordProblem.COMMON if is_breached(folded) else None


def _words(names: Iterable[str | None]) -> set[str]:
    """The parts of names that a password must not hold; short ones would forbid too much."""
    folded = [unicodedata.normalize("NFKC", name).casefold() for name in names if name]
    parts = [part for name in folded for part in (name, name.partition("@")[0], *name.split())]
    return {part for part in parts if len(part) >= _MIN_WORD_CHARS}


def _is_pattern(text: str) -> bool:
    """One short piece over and over (`abcabcabc`), or a run (`12345678`, `hgfedcba`)."""
    if any(text == (text[:period] * len(text))[: len(text)] for period in range(1, _MAX_PERIOD + 1)):
        return True
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    # From 9 a run of digits goes on with 0.
    if text.isdecimal():
        steps = {step % 10 for step in steps}
        return len(steps) == 1 and steps <= {1, 9}
    return len(steps) == 1 and steps <= {1, -1}
