"""What a user reads about the policy: the reference page, made from the models, and the first `stockade.yaml`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from stockade.policy.extensions import OperationExtension, SchemaExtension
from stockade.policy.fields import Model, Quota
from stockade.policy.load import model_in
from stockade.policy.model import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_HEAD = """# Configuration

`stockade.yaml`. Only `api` must be written; everything else has a safe default. Paths are relative to the file.
Unknown keys are errors, and every error names file, line and column.

Quotas are written `100/minute`, with `second`, `minute`, `hour` or `day`, and `burst 20` behind it where fewer or more
than a whole period's worth may come at once. Sizes are bytes, or `512 KiB`, `8 MiB`. A list of one may be written
without its brackets.
"""
_EXTENSIONS_HEAD = """## `x-stockade` in the description

On an operation, on a path (for all its operations) or at the root (for all operations); the nearest word counts. It may
stand in an overlay, so that the API's own file stays as it is.
"""
_SIZES_FROM = 1024


def render_reference() -> str:
    """The text of `docs/configuration.md`."""
    parts = [_HEAD, *_section(Policy, ""), _EXTENSIONS_HEAD, _table(OperationExtension)]
    parts += ["`modes` has the keys of `layers`.\n", "On a schema:\n", _table(SchemaExtension)]
    return "\n".join(parts)


def _section(model: type[Model], name: str) -> Iterator[str]:
    if name:
        yield f"## `{name}`\n"
        yield f"{(model.__doc__ or '').strip()}\n"
    yield _table(model)
    for key, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is not None and issubclass(inner, Model) and inner is not Quota:
            yield from _section(inner, f"{name}.{key}" if name else key)


def _table(model: type[Model]) -> str:
    lines = ["| Key | Default | What |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        what = field.description or "as in `layers`"
        options = _options(field.annotation)
        if options:
            what = f"{what} ({', '.join(f'`{option}`' for option in options)})"
        lines.append(f"| `{key}` | {_default(key, field)} | {what} |")
    return "\n".join(lines) + "\n"


def _options(annotation: Any) -> list[str]:
    """The words to choose from, for a field that has a few."""
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    found = [_options(part) for part in get_args(annotation) if get_origin(part) is Literal]
    return found[0] if found and "None" in str(annotation) else []


def _default(key: str, field: FieldInfo) -> str:  # noqa: PLR0911 (a table)
    value = field.get_default()
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, Quota):
        return f"`{value}`"
    if isinstance(value, Model):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        return f"`{value}`{_in_units(value) if key.endswith('_bytes') else ''}"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`"


def _in_units(value: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= _SIZES_FROM and value % size == 0:
            return f" ({value // size} {unit})"
    return ""


def render_initial(description: str | Path, upstream: str) -> str:
    """A commented `stockade.yaml` for `stockade init`; what is commented out shows the default."""
    default = Policy.default(description=description, upstream=upstream)
    modes = default.layers.model_dump()
    modes.pop("detect")
    layers = "\n".join(f"#   {name}: {mode}" for name, mode in modes.items())
    return f"""\
# Stockade's policy. Everything but `api` has a safe default; lines behind `#` show it.
# The whole reference: docs/configuration.md
version: 1

api:
  description: {json.dumps(str(description), ensure_ascii=False)}
  upstream: {json.dumps(upstream, ensure_ascii=False)}
#   overlay: ./stockade.overlay.yaml   # what the description should say, without touching it
#   hosts: [api.example.com]           # host names that clients may use; any where not given

# listen:
#   address: {default.listen.address}            # 0.0.0.0:8443 opens it to the network
#   tls: {{ mode: auto }}                # a development CA; or certificate and key

# identity:
#   issuer: embedded                   # or https://idp.example.com

# limits:
#   per_address: {default.limits.per_address}            # before authentication
#   per_client: {default.limits.per_client}             # after it

# layers:                              # enforce | observe | off
{layers}

# validation:
#   unknown_query: {default.validation.unknown_query}                # query parameters that nothing declares
#   unknown_properties: {default.validation.unknown_properties.request}           # properties that nothing declares

# cors:                                # without it, no other origin is answered
#   origins: https://app.example.com
"""
