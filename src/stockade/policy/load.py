"""`stockade.yaml` → Policy. Whatever is wrong becomes a PolicyError that names file, line, column and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from stockade.errors import Location, PolicyError
from stockade.policy.model import Policy
from stockade.policy.positions import MAX_BYTES, Steps, Tree, read_tree

Locate = Callable[[Steps, bool], Location | None]
"""Where a value stands, or (second argument) the key that names it."""


def load(path: str | Path) -> Policy:
    """Read a policy; relative paths in it are relative to its folder. Raises PolicyError (the first problem found)."""
    path = Path(path)
    tree = _read(path)
    errors, policy = _validate(tree, path.parent)
    if policy is None:
        raise errors[0]
    return policy


def problems(path: str | Path) -> list[PolicyError]:
    """Everything that is wrong with the file, in its order; empty when `load` would succeed."""
    path = Path(path)
    try:
        tree = _read(path)
    except PolicyError as error:
        return [error]
    return _validate(tree, path.parent)[0]


def build(data: Mapping[str, Any]) -> Policy:
    """A policy from plain values, without a file: paths are taken as they are. Raises PolicyError."""
    errors, policy = _validate(Tree("policy", dict(data), {}, {}), None)
    if policy is None:
        raise errors[0]
    return policy


def _read(path: Path) -> Tree:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = "`stockade init --description openapi.yaml --upstream URL` writes one"
        raise PolicyError(f"cannot read the policy: {reason}", location=Location(str(path)), hint=hint) from None
    except UnicodeDecodeError:
        raise PolicyError("the file is not UTF-8 text", location=Location(str(path))) from None
    return read_tree(text, str(path))


def _validate(tree: Tree, base: Path | None) -> tuple[list[PolicyError], Policy | None]:
    if not isinstance(tree.value, dict):
        hint = "a policy starts with `version: 1` and `api:`"
        return [PolicyError("a policy is a mapping", location=tree.locate(()), hint=hint)], None
    try:
        policy = Policy.model_validate(tree.value, context={"base": base})
    except ValidationError as error:
        return explain(error, Policy, tree.value, lambda path, key: tree.locate(path, key=key)), None
    policy._tree = tree if base is not None else None  # noqa: SLF001 (ours)
    return [], policy


def explain(error: ValidationError, model: type[BaseModel], value: Any, locate: Locate) -> list[PolicyError]:
    """Pydantic's complaints about `value`, in the operator's words and the file's order."""
    # What is missing comes after what is wrong at the same place: a misspelt key is both.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
    found = [_explain(dict(detail), model, value, locate) for detail in details]
    return sorted(found, key=_position)


def _position(error: PolicyError) -> tuple[int, int]:
    place = error.location
    return (place.line or 0, place.column or 0) if place else (0, 0)


def _explain(detail: Mapping[str, Any], model: type[BaseModel], value: Any, locate: Locate) -> PolicyError:
    path = _real_path(detail["loc"], value)
    name = ".".join(str(step) for step in path) or "the value"
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        hint = _did_you_mean(str(path[-1]), _known_keys(model, path[:-1]))
        return PolicyError(f"unknown key `{path[-1]}`", location=locate(path, True), hint=hint)
    if kind == "missing":
        where = f" in `{name}`" if path else ""
        return PolicyError(f"`{detail['loc'][-1]}` is missing{where}", location=locate(path, True))
    if kind == "literal_error":
        options = [option.strip().strip("'") for option in context["expected"].replace(" or ", ", ").split(",")]
        message = f"`{name}` is `{_shown(detail['input'])}`, and must be {_either(options)}"
        return PolicyError(message, location=locate(path, False), hint=_did_you_mean(str(detail["input"]), options))
    if kind == "value_error":
        return PolicyError(f"`{name}`: {context['error']}", location=locate(path, False))
    return PolicyError(f"`{name}` {_demand(kind, context, detail['msg'])}", location=locate(path, False))


def _demand(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What a value must be."""
    simple = {
        "string_type": "must be text",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be `true` or `false`",
        "tuple_type": "must be a list",
        "mapping_type": "must be a mapping",
        "dict_type": "must be a mapping",
        "model_type": "must be a mapping",
        "model_attributes_type": "must be a mapping",
        "is_instance_of": "must be a path",
        "path_type": "must be a path",
        "too_short": "must not be empty",
    }
    if kind in simple:
        return simple[kind]
    bounds = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
    if kind in bounds:
        words, key = bounds[kind]
        return f"must be {words} {context[key]}"
    return f"is wrong: {message[:1].lower()}{message[1:]}"


def _real_path(steps: tuple[str | int, ...], value: Any) -> tuple[str | int, ...]:
    """Pydantic's `loc` without the steps that name validators and defaults instead of places in the file."""
    path: list[str | int] = []
    for step in steps:
        inside = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {}
        if step in inside:
            value = inside[step]
            path.append(step)
    return tuple(path)


def _known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys of the model that stands at `path` below `model`."""
    current = model
    for step in path:
        field = current.model_fields.get(str(step))
        inner = model_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        current = inner
    return list(current.model_fields)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's annotation holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((found for part in get_args(annotation) if (found := model_in(part)) is not None), None)
    return None


def _did_you_mean(text: str, options: list[str]) -> str | None:
    close = difflib.get_close_matches(text, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(f'`{option}`' for option in options)}" if options else None


def _either(options: list[str]) -> str:
    quoted = [f"`{option}`" for option in options]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 (a line's worth)
