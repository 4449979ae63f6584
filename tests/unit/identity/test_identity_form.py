"""Reading forms: the quick way gives what the standard library's strict way gives."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st

from stockade.identity.endpoints.form import MAX_FIELDS, parse_pairs


def slowly(text: str) -> list[tuple[str, str]] | None:
    try:
        return parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        return None


def quickly(text: str) -> list[tuple[str, str]] | None:
    try:
        return parse_pairs(text)
    except ValueError:
        return None


@given(st.text(alphabet="ab=&+%25C3FzÿE;. ", max_size=60).filter(str.isascii))
def test_any_text_is_read_as_the_library_reads_it(text: str) -> None:
    assert quickly(text) == slowly(text)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=MAX_FIELDS))
def test_what_was_encoded_comes_back(pairs: list[tuple[str, str]]) -> None:
    encoded = urlencode([pair for pair in pairs if all(map(encodable, pair))])
    assert quickly(encoded) == slowly(encoded) == [pair for pair in pairs if all(map(encodable, pair))]


def encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_too_many_fields_are_refused() -> None:
    text = "&".join(["a=b"] * (MAX_FIELDS + 1))
    assert quickly(text) is slowly(text) is None
    assert len(quickly(text.removesuffix("&a=b")) or ()) == MAX_FIELDS
