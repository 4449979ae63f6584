"""The local list of common and breached passwords: sorted 40-bit digests in `breached.bin`.

`breached.md` beside it says where they come from; `scripts/breached_passwords.py` makes it. One in some ten million
good passwords is refused by chance; nothing leaves the machine.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from importlib.resources import files

WIDTH = 5
# What people put round a common password to satisfy a rule.
MAX_DECORATION = 4
_MIN_BASE_CHARS = 4
_EDGES = re.compile(rf"^[\W\d_]{{0,{MAX_DECORATION}}}(.*?)[\W\d_]{{0,{MAX_DECORATION}}}$", re.DOTALL)
_LOOKALIKES = str.maketrans("@43!10$57", "aaeiiosst")


def is_breached(folded: str) -> bool:
    """Whether a case-folded password is listed, as it is or in its usual disguise: `P@ssw0rd123!`."""
    return any(_contains(form) for form in _forms(folded))


def entry_of(word: str) -> bytes:
    """What the list holds of a case-folded word."""
    return sha256(word.encode(errors="surrogatepass")).digest()[:WIDTH]


def _forms(folded: str) -> set[str]:
    forms = {folded, folded.translate(_LOOKALIKES)}
    match = _EDGES.match(folded)
    base = match[1] if match else folded
    if len(base) >= max(_MIN_BASE_CHARS, len(folded) - MAX_DECORATION):
        forms |= {base, base.translate(_LOOKALIKES)}
    # `p@ssw0rd1`: what looks like decoration may be part of the word, so only what follows is taken off here.
    stripped = folded.rstrip("0123456789!?.*#$_-")
    if len(stripped) >= max(_MIN_BASE_CHARS, len(folded) - MAX_DECORATION):
        forms |= {stripped, stripped.translate(_LOOKALIKES)}
    return forms


def _contains(word: str) -> bool:
    entries, wanted = _entries(), entry_of(word)
    low, high = 0, len(entries) // WIDTH
    while low < high:
        middle = (low + high) // 2
        if entries[middle * WIDTH : (middle + 1) * WIDTH] < wanted:
            low = middle + 1
        else:
            high = middle
    return entries[low * WIDTH : (low + 1) * WIDTH] == wanted


@cache
def _entries() -> bytes:
    return files("stockade.identity.people").joinpath("breached.bin").read_bytes()
