"""Where Schemathesis and Stockade disagree, settled by the standards' text; `docs/conformance.md` has the same."""

from __future__ import annotations

import json
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import jsonschema_rs
from jsonschema import Draft4Validator, Draft202012Validator

if TYPE_CHECKING:
    from collections.abc import Callable

    from judge_draws import Draw, Subject

    from stockade.enforcement.engine import Denial

FORM = "application/x-www-form-urlencoded"
MOST = (1 << 64) - 1
LEAST = -(1 << 63)


@dataclass(frozen=True)
class Disagreement:
    """What Schemathesis said of a request, and what the engine did. `denial` is None where it was allowed."""

    subject: Subject
    draw: Draw
    denial: Denial | None

    @property
    def reason(self) -> str:
        return self.denial.reason if self.denial else "allowed"

    def __str__(self) -> str:
        draw, denial = self.draw, self.denial
        return (
            f"{self.subject.name}: {draw.operation}: called {'valid' if draw.valid else 'invalid'} ({draw.what}; "
            f"{draw.location} {draw.keyword}), {self.reason}\n    {draw.method} {draw.target[:300]}\n"
            f"    {draw.content_type} {draw.body[:300]!r}\n    {denial.evidence if denial else ''}"
        )


@dataclass(frozen=True)
class Settled:
    """A class of disagreements that is settled. `why` names the section that settles it, or the choice behind it."""

    id: str
    what: str
    why: str
    covers: Callable[[Disagreement], bool]


def settle(found: Disagreement) -> str | None:
    """The id of the exception that covers a disagreement."""
    return next((each.id for each in EXCEPTIONS if each.covers(found)), None)


# Stricter than the judge, on purpose


def _ambiguous_path(found: Disagreement) -> bool:
    path = found.draw.target.partition("?")[0]
    segments = [_text(segment) for segment in path.split("/")[1:]]
    return found.reason == "path_ambiguous" and any(
        segment in ("", ".", "..") or _has_control(segment) or set(segment) & set("/\\;") for segment in segments
    )


def _control_character(found: Disagreement) -> bool:
    query = found.draw.target.partition("?")[2]
    return found.reason == "parameter_malformed" and _has_control(_text(query.replace("+", " ")))


def _wide_integer(found: Disagreement) -> bool:
    numbers = re.findall(r"-?\d{19,}", _text(found.draw.target) + found.draw.body.decode(errors="replace"))
    spelled_out = [int(each) for each in numbers]
    whole = [int(each) for each in _numbers(found.draw.values) if isinstance(each, int) or each.is_integer()]
    evidence = found.denial.evidence if found.denial else ""
    return re.search("64 bits|integer", evidence) is not None and any(
        not LEAST <= each <= MOST for each in (*spelled_out, *whole)
    )


def _float_range(found: Disagreement) -> bool:
    return found.denial is not None and "not in the format `float`" in found.denial.evidence


def _format(found: Disagreement) -> bool:
    """The value is valid but for a `format`."""
    if found.reason != "body_invalid" or found.draw.content_type != "application/json":
        return False
    document = found.subject.document
    versions = (jsonschema_rs.Draft4Validator, jsonschema_rs.Draft202012Validator)
    validator = versions[not document["openapi"].startswith("3.0")]
    content = next(each for each in found.draw.entry["body"]["content"] if each["media_type"] == "application/json")
    root = {**document, "$ref": _fragment(f"{content['pointer']}/schema")}
    return [
        validator(root, validate_formats=asserted).is_valid(json.loads(found.draw.body)) for asserted in (False, True)
    ] == [True, False]


def _xml(found: Disagreement) -> bool:
    return found.reason == "media_type_unsupported" and found.draw.content_type in ("application/xml", "text/xml")


def _repeated_undeclared_field(found: Disagreement) -> bool:
    if found.draw.content_type != FORM or found.reason != "body_duplicate_key":
        return False
    names = [name for name, _ in _form(found)]
    declared = _properties(found)
    return any(names.count(name) > 1 and name not in declared for name in names)


# The judge's label says something else than the bytes


def _lost_in_form(found: Disagreement) -> bool:
    values = found.draw.values["body"]
    if found.draw.content_type != FORM or found.reason != "body_invalid" or not isinstance(values, dict):
        return False
    return any(_has_no_form(value) for value in values.values())


def _nullable(found: Disagreement) -> bool:
    denial = found.denial
    if denial is None or not denial.evidence.endswith("got null") or not denial.pointer:
        return False
    schema = _at(found.subject.document, denial.pointer.rpartition("/")[0])
    return found.subject.document["openapi"].startswith("3.1") and bool(schema.get("nullable"))


def _nullable_enum(found: Disagreement) -> bool:
    if found.reason != "allowed" or not found.subject.document["openapi"].startswith("3.0"):
        return False
    if found.draw.content_type != "application/json" or found.draw.scenario != "incorrect_type":
        return False
    # Schemathesis names the broken property first: "severity: Incorrect type".
    name = found.draw.what.partition(":")[0]
    return isinstance(found.draw.values["body"], dict) and found.draw.values["body"].get(name, name) is None


def _empty_enum(found: Disagreement) -> bool:
    return found.denial is not None and found.denial.evidence.startswith("not one of 0 permitted values")


def _type_of_no_body(found: Disagreement) -> bool:
    return found.reason == "allowed" and found.draw.scenario == "malformed_content_type" and not found.draw.body


def _no_body(found: Disagreement) -> bool:
    body = found.draw.entry["body"]
    return found.reason == "allowed" and found.draw.location == "body" and not found.draw.body and not body["required"]


def _vanished(found: Disagreement) -> bool:
    """Something was added that has no form on the wire: an empty list, say."""
    if found.reason != "allowed":
        return False
    return _vanished_from(found.draw.values["query"], _query(found)) or (
        found.draw.content_type == FORM and _vanished_from(found.draw.values["body"], _form(found))
    )


def _text_has_no_type(found: Disagreement) -> bool:
    """The value as text, which is what arrives, fits the schema."""
    if found.reason != "allowed":
        return False
    places: dict[str, list[str]] = {}
    pointers: dict[str, str] = {}
    if found.draw.location == "query":
        for name, value in _query(found):
            places.setdefault(name, []).append(value)
        pointers = {each["name"]: f"{each['pointer']}/schema" for each in found.draw.entry["parameters"]}
    elif found.draw.content_type == FORM:
        for name, value in _form(found):
            places.setdefault(name, []).append(value)
        pointers = _properties(found)
    return all(
        any(_fits(found, pointers[name], reading) for reading in _readings(values))
        for name, values in places.items()
        if name in pointers
    ) and bool(places)


def _readings(values: list[str]) -> list[Any]:
    """What the text of a parameter may stand for: a list, a string, a number or boolean."""
    readings: list[Any] = [values, values[0]]
    with suppress(ValueError):
        readings.append(json.loads(values[0]))
    return readings


EXCEPTIONS = (
    Settled(
        "path_ambiguous",
        "a path parameter that holds `/`, `\\`, `;`, `.`, `..`, a control character, or nothing at all",
        "RFC 3986 §3.3 and §6.2.2 let them be escaped; servers and proxies read them in different ways, so the gate "
        "refuses every path that has two readings (docs/contracts.md §2, `path_ambiguous`)",
        _ambiguous_path,
    ),
    Settled(
        "control_character",
        "a query parameter that holds an escaped control character (U+0000 to U+001F, U+007F)",
        "RFC 3986 §2.1 can spell them and JSON Schema's `string` admits them; they are how lines, headers and logs are "
        "split, so parameters may not hold them; a JSON body may",
        _control_character,
    ),
    Settled(
        "integer_beyond_64_bits",
        "a whole number below -2⁶³ or from 2⁶⁴ on",
        "JSON Schema knows no bounds, RFC 8259 §6 says that implementations may set them; a number that the gate and "
        "the API would round differently is refused",
        _wide_integer,
    ),
    Settled(
        "float_range",
        "`format: float` with a number that single precision cannot hold",
        "OpenAPI Format Registry, `float`: a single precision floating point number; formats are asserted",
        _float_range,
    ),
    Settled(
        "format_asserted",
        "a string that is valid but for its `format`: an empty `date-time`, say",
        "JSON Schema 2020-12 Validation §7.2.1 leaves the assertion to us, and formats are asserted; RFC 3339 §5.6 "
        "knows no empty date",
        _format,
    ),
    Settled(
        "xml_body",
        "an XML body whose schema is not a plain string",
        "OpenAPI 3.0.4 §4.7.26, 3.1.1 §4.8.26: nothing here reads XML, and what cannot be checked is not let through; "
        "`stockade compile` reports it",
        _xml,
    ),
    Settled(
        "form_repeats_undeclared_field",
        "a form field that nothing declares and that stands more than once",
        "OpenAPI 3.1.1 §4.8.15: repetition is how `explode` writes an array; without a declared array two values for "
        "one name are ambiguous, as duplicate keys in JSON are (RFC 8259 §4)",
        _repeated_undeclared_field,
    ),
    Settled(
        "form_cannot_say_it",
        "a form body with an empty list, or with objects inside, whose fields no longer say so",
        "RFC 6570 §3.2.1: an empty list is undefined and is left out, §2.3: there are no nested structures; what "
        "arrives does not fit the schema",
        _lost_in_form,
    ),
    Settled(
        "nullable_in_3_1",
        "`null` where an OpenAPI 3.1 schema says `nullable: true`",
        'OpenAPI 3.1.0 Schema Object: `nullable` is gone, `type: [string, "null"]` says it; an unknown keyword says '
        "nothing (JSON Schema 2020-12 Core §4.3.1)",
        _nullable,
    ),
    Settled(
        "nullable_beside_enum",
        "`null` for a property with `nullable: true` and an `enum` that does not list `null`, in OpenAPI 3.0",
        "the one place where we are laxer: OpenAPI 3.0.4 Schema Object has `enum` exclude it, authors mean it to be "
        "allowed (GitHub's description does, and its answers hold it)",
        _nullable_enum,
    ),
    Settled(
        "empty_enum",
        "any value where the schema says `enum: []`",
        "JSON Schema 2020-12 Validation §6.1.2: an instance must equal one of the elements, and there is none",
        _empty_enum,
    ),
    Settled(
        "type_of_no_body",
        "a `Content-Type` that makes no sense, without a body",
        "RFC 9110 §8.3: the field describes content; where there is none it describes nothing",
        _type_of_no_body,
    ),
    Settled(
        "no_body",
        "an empty body that would be invalid, where the body is optional",
        "OpenAPI 3.1.1 §4.8.13 `required`; RFC 9112 §6.3: no content is no body",
        _no_body,
    ),
    Settled(
        "vanished_on_the_wire",
        "an addition that is to make the request invalid, but has no form on the wire",
        "RFC 6570 §3.2.1: an empty list or object is undefined and is left out; what arrives is valid",
        _vanished,
    ),
    Settled(
        "text_has_no_type",
        "a number or boolean where a string is declared, in a query or a form",
        "RFC 6570 §2.3: values are strings; `true` and `0.5` are strings of four and three characters",
        _text_has_no_type,
    ),
)  # fmt: skip


def _text(escaped: str) -> str:
    return unquote_to_bytes(escaped).decode(errors="replace")


def _has_control(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)


def _query(found: Disagreement) -> list[tuple[str, str]]:
    return parse_qsl(found.draw.target.partition("?")[2], keep_blank_values=True)


def _form(found: Disagreement) -> list[tuple[str, str]]:
    return parse_qsl(found.draw.body.decode("latin-1"), keep_blank_values=True)


def _vanished_from(values: Any, sent: list[tuple[str, str]]) -> bool:
    return isinstance(values, dict) and bool(values.keys() - {name for name, _ in sent})


def _has_no_form(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    return isinstance(value, list) and (not value or any(isinstance(each, (dict, list)) for each in value))


def _numbers(value: Any) -> list[int | float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def _at(document: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        step = token.replace("~1", "/").replace("~0", "~")
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _fragment(pointer: str) -> str:
    """RFC 6901 §6."""
    return "#" + quote(pointer, safe="/~")


def _properties(found: Disagreement) -> dict[str, str]:
    """Pointers to the schemas of a form's declared fields."""
    content = next(each for each in found.draw.entry["body"]["content"] if each["media_type"] == FORM)
    pointer = f"{content['pointer']}/schema"
    schema = _at(found.subject.document, pointer)
    while "$ref" in schema:
        pointer = schema["$ref"].removeprefix("#")
        schema = _at(found.subject.document, pointer)
    escaped = {name: name.replace("~", "~0").replace("/", "~1") for name in schema.get("properties", {})}
    return {name: f"{pointer}/properties/{step}" for name, step in escaped.items()}


def _fits(found: Disagreement, pointer: str, value: Any) -> bool:
    document = found.subject.document
    validator = Draft4Validator if document["openapi"].startswith("3.0") else Draft202012Validator
    return bool(validator({**document, "$ref": _fragment(pointer)}).is_valid(value))
