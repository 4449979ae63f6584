"""Why a page cannot be shown: a status and the name of two texts, `error.<name>.title` and `error.<name>.text`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PageError(Exception):
    """Nothing that the request held enters it, so nothing can be smuggled into the page."""

    name: str
    status: int = 400


def form_refused() -> PageError:
    """The form is from another browser, another time or another site: one text for all."""
    return PageError("form", 403)


def interaction_gone() -> PageError:
    """The sign-in that this page belongs to is over, expired or another browser's."""
    return PageError("interaction", 400)
