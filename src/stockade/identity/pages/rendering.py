"""Templates to answers. Everything is escaped; a name that a template does not get is a defect, not an empty string."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

from stockade.identity.pages.headers import PAGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

FOLDER = Path(__file__).with_name("templates")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Templates come from the package alone and never change while the process runs."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - for those who have people only

    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(template: str, context: Mapping[str, object], status: int = 200) -> Response:
    """Render `template` with exactly this context."""
    text = environment().get_template(template).render(context)
    return Response(text, status, headers=PAGE_HEADERS, media_type="text/html")


def see_other(location: str) -> Response:
    """After a form: fetch that page (RFC 9110 §15.4.4). `location` is one of our own paths."""
    return Response(status_code=303, headers={**PAGE_HEADERS, "Location": location})
