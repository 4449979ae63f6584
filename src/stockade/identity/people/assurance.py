"""How sure we are who somebody is (docs/identity.md §1): `acr` from what was proved, and which satisfies which.

RFC 8176 names the proofs. OIDC Core §2: `acr` values are compared by the parties' agreement; ours are ordered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PWD = "pwd"  # noqa: S105 - a value of `acr`
MFA = "mfa"
PHR = "phr"
# Weakest first.
ACRS = (PWD, MFA, PHR)

PASSWORD = ("pwd",)
# A code of an authenticator app, or a recovery code, for which RFC 8176 has no name of its own.
CODE = ("otp",)
# `hwk`: a key that its holder proved to have; `user`: and a device that checked who holds it.
PASSKEY = ("hwk", "user")

_ORDER = ("pwd", "otp", "hwk", "user", "mfa")


def acr_of(proofs: Iterable[str]) -> str:
    """The assurance that these proofs come to. A passkey with user verification is two factors, phishing-resistant."""
    proved = set(proofs)
    if proved.issuperset(PASSKEY):
        return PHR
    return MFA if "pwd" in proved and proved & {"otp", "hwk"} else PWD


def amr_of(proofs: Iterable[str]) -> tuple[str, ...]:
    """`amr` (RFC 8176 §2) in a fixed order; `mfa` stands in it where two factors were used."""
    proved = set(proofs) - {"mfa"}
    if acr_of(proved) != PWD:
        proved.add("mfa")
    return tuple(name for name in _ORDER if name in proved)


def satisfies(have: str, wanted: str | None) -> bool:
    """Whether `have` will do where `wanted` is asked for. What we do not know is satisfied by nothing."""
    if wanted is None:
        return True
    return have in ACRS and wanted in ACRS and ACRS.index(have) >= ACRS.index(wanted)


def weakest(wanted: Iterable[str]) -> str | None:
    """The least of several acceptable values (`acr_values`); None where none of them is ours."""
    known = [acr for acr in wanted if acr in ACRS]
    return min(known, key=ACRS.index, default=None)
