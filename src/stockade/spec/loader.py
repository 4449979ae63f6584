"""`load`: from the files of a description to a `Description`."""

from __future__ import annotations

import hashlib
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockade.errors import DescriptionError
from stockade.spec.context import Context, extensions, kind, object_field, text_field
from stockade.spec.faults import Fault
from stockade.spec.library import Library, read_document
from stockade.spec.model import Description, Node
from stockade.spec.operations import Operations
from stockade.spec.overlay import OverlayRun
from stockade.spec.pointer import child
from stockade.spec.security import Security

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_VERSION = re.compile(r"3\.([01])\.[0-9]+(?:-[0-9A-Za-z.-]+)?\Z")
_COMPONENT_KEY = re.compile(r"[A-Za-z0-9._-]+\Z")
_ROOT_FIELDS = frozenset(["openapi", "info", "servers", "paths", "components", "security", "tags", "externalDocs"])
_ROOT_FIELDS_31 = _ROOT_FIELDS | {"jsonSchemaDialect", "webhooks"}
_COMPONENT_FIELDS = frozenset(
    [
        "schemas",
        "responses",
        "parameters",
        "examples",
        "requestBodies",
        "headers",
        "securitySchemes",
        "links",
        "callbacks",
        "pathItems",
    ]
)
_DIALECTS = re.compile(
    r"https://(?:json-schema\.org/draft/2020-12/schema|spec\.openapis\.org/oas/3\.1/dialect/[0-9a-z-]+)#?\Z"
)


def load(
    path: Path,
    *,
    overlays: Sequence[Path] = (),
    allow_remote: Mapping[str, Path] | None = None,
    allow_folders: Sequence[Path] = (),
) -> Description:
    """Read an OpenAPI 3.0 or 3.1 description, with overlays applied in order.

    `allow_remote` maps the URL of a remote document to a local copy, or a URL that ends in `/` to a folder of copies;
    every other remote `$ref` is refused, and nothing is ever fetched. `$ref`s to files stay within the description's
    folder and `allow_folders`. Raises DescriptionError for what cannot be read as a whole; what is wrong with one
    operation only is in its `unsupported`.
    """
    library = Library(path, allow_remote=allow_remote or {}, allow_folders=allow_folders)
    notes = _apply_overlays(library, overlays)
    root = library.node(library.root)
    try:
        return _describe(library, root, notes)
    except Fault as fault:
        raise _as_error(library, fault) from None


def _describe(library: Library, root: Node, notes: list[tuple[str, Node]]) -> Description:
    version = _version(root)
    is_31 = version.startswith("3.1")
    library.gather(knows_ids=is_31)
    context = Context(library, is_31=is_31)
    for message, node in notes:
        context.warn(message, node)
    context.unknown_fields(root, _ROOT_FIELDS_31 if is_31 else _ROOT_FIELDS, "the description")
    _check_components(context, root)
    _note_webhooks(context, root)
    title, api_version = _info(context, root)
    security = Security(context, root)
    operations = Operations(context, root, security, everywhere=_dialect_fault(root) if is_31 else []).read()
    return Description(
        title=title,
        version=api_version,
        openapi=version,
        dialect="draft2020-12" if is_31 else "draft4",
        source=library.root.key,
        sha256=_digest(library),
        documents=MappingProxyType(library.documents),
        root=root,
        operations=operations,
        security_schemes=MappingProxyType(security.schemes),
        extensions=MappingProxyType(extensions(root.value)),
        resolve=_resolver(library),
        locate=library.locate,
        warnings=tuple(context.warnings),
        inputs=library.inputs,
    )


def _apply_overlays(library: Library, overlays: Sequence[Path]) -> list[tuple[str, Node]]:
    """Change the root document as the overlays say; returns their warnings."""
    if not overlays:
        return []
    run = OverlayRun(library.root)
    for number, overlay_path in enumerate(overlays, 1):
        key = f"overlay {number}: {os.path.basename(overlay_path)}"  # noqa: PTH119  (a name only, no path)
        overlay = read_document(overlay_path, key=key, file=str(overlay_path), uri=overlay_path.absolute().as_uri())
        library.add_overlay(overlay)
        run.apply(overlay)
    library.replace_root(run.value, run.origins)
    return [(message, library.node_or_none(document, pointer)) for message, document, pointer in run.warnings]


def _version(root: Node) -> str:
    if not isinstance(root.value, dict):
        hint = f"the file holds {kind(root.value)}, where a description is an object"
        raise Fault("not an OpenAPI description", root, hint=hint)
    if "swagger" in root.value:
        hint = "convert the description to OpenAPI 3.0 or 3.1"
        raise Fault("Swagger 2.0 is not supported", child(root, "swagger"), hint=hint)
    if "overlay" in root.value and "openapi" not in root.value:
        raise Fault("an overlay, not a description", root, hint="name the description, and this file as its overlay")
    if "openapi" not in root.value:
        raise Fault(
            "not an OpenAPI description", root, hint="the field `openapi: 3.1.0` or `openapi: 3.0.3` is missing"
        )
    version = root.value["openapi"]
    node = child(root, "openapi")
    if not isinstance(version, str):
        raise Fault("`openapi` must be a string", node, hint="write the whole version, as in `3.1.0` or `3.0.3`")
    if not _VERSION.match(version):
        hint = "describe the API with OpenAPI 3.0.x or 3.1.x"
        raise Fault(f"OpenAPI version `{version[:40]}` is not supported", node, hint=hint)
    return version


def _info(context: Context, root: Node) -> tuple[str, str]:
    """Title and version. Nothing is enforced with them, so what is missing is only a warning."""
    try:
        info = object_field(root, "info")
    except Fault as fault:
        context.warn(fault.message, fault.node)
        info = None
    if info is None:
        context.warn("a description without `info`", root)
        return "untitled", "0"
    return _info_text(context, info, "title", "untitled"), _info_text(context, info, "version", "0")


def _info_text(context: Context, info: Node, name: str, default: str) -> str:
    try:
        value = text_field(info, name)
    except Fault as fault:
        context.warn(f"{fault.message}; quote it", fault.node)
        shown = info.value[name]
        return str(shown) if isinstance(shown, (int, float)) else default
    if value is None:
        context.warn(f"`info` without `{name}`", info)
    return value or default


def _check_components(context: Context, root: Node) -> None:
    try:
        components = object_field(root, "components")
        if components is None:
            return
        context.unknown_fields(components, _COMPONENT_FIELDS, "`components`")
        for section in components.value.keys() & _COMPONENT_FIELDS:
            _check_keys(context, components, section)
    except Fault as fault:
        context.warn(fault.message, fault.node)


def _check_keys(context: Context, components: Node, section: str) -> None:
    members = object_field(components, section)
    for name in members.value if members is not None else ():
        if not _COMPONENT_KEY.match(name) and members is not None:
            context.warn(f"the component name `{name[:80]}` has characters that OpenAPI forbids", child(members, name))


def _note_webhooks(context: Context, root: Node) -> None:
    webhooks = root.value.get("webhooks")
    if isinstance(webhooks, dict):
        for name in webhooks:
            node = child(child(root, "webhooks"), name)
            context.warn(f"the webhook `{name[:80]}` goes out from the API and does not pass the gate", node)


def _dialect_fault(root: Node) -> list[Fault]:
    """Schemas of another dialect would mean something else here, so no operation may use them."""
    dialect = root.value.get("jsonSchemaDialect")
    if dialect is None or (isinstance(dialect, str) and _DIALECTS.match(dialect)):
        return []
    hint = "use the dialect of OpenAPI 3.1 or JSON Schema 2020-12"
    return [Fault("another `jsonSchemaDialect`", child(root, "jsonSchemaDialect"), hint=hint)]


def _digest(library: Library) -> str:
    """SHA-256 over the names and digests of the documents, the root first, then the overlays in their order."""
    digest = hashlib.sha256(b"stockade description 1\n")
    for key, value in library.digests():
        digest.update(f"{key}\0{value}\n".encode())
    return digest.hexdigest()


def _resolver(library: Library) -> Callable[[Node, str], Node]:
    def resolve(node: Node, reference: str) -> Node:
        try:
            return library.resolve(node, reference)
        except Fault as fault:
            raise _as_error(library, fault) from None

    return resolve


def _as_error(library: Library, fault: Fault) -> DescriptionError:
    return DescriptionError(fault.message, location=library.locate(fault.node), hint=fault.hint)
