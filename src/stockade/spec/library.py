"""The documents of one description, and what a `$ref` in one of them names.

Everything that any document refers to is read while loading; afterwards no file is opened. A reference leads to a file
of the description's own folder, of a folder allowed by name, or to the local copy of a remote document allowed by name.
Nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

from stockade.errors import DescriptionError, Location
from stockade.spec.faults import Fault
from stockade.spec.json_reader import JsonPositions, read_json, too_deep
from stockade.spec.limits import MAX_DOCUMENTS, MAX_REFERENCE_CHARS, MAX_REFERENCE_HOPS, MAX_TOTAL_BYTES, LimitError
from stockade.spec.model import Node
from stockade.spec.pointer import split, step
from stockade.spec.survey import TooBigError, resources, survey
from stockade.spec.text import decode, read_bytes
from stockade.spec.yaml_reader import Mark, read_yaml, yaml_marks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stockade.spec.overlay import Origins

_FILE = "file"


@dataclass(slots=True)
class Document:
    """One parsed file: `file` names it in messages, `path` was opened, `uri` is the base of its references."""

    key: str
    file: str
    uri: str
    path: Path
    text: str
    is_json: bool
    sha256: str
    value: Any
    nodes: int = 0
    references: frozenset[str] = frozenset()
    has_ids: bool = False
    bases: dict[str, str] = field(default_factory=dict)
    """Pointer of each schema with `$id` → the URI that it gives itself."""
    _json_positions: JsonPositions | None = None
    _marks: Mark | None = None

    def locate(self, pointer: str) -> Location:
        """The place of a node, or of its nearest ancestor in the text."""
        tokens = split(pointer)
        if self.is_json:
            if self._json_positions is None:
                self._json_positions = JsonPositions(self.text)
            return Location(self.file, *self._json_positions.line_and_column(tokens), pointer)
        if self._marks is None:
            self._marks = yaml_marks(self.text, self.file)
        mark = self._marks
        for token in tokens:
            if token not in mark.children:
                break
            mark = mark.children[token]
        return Location(self.file, mark.line, mark.column, pointer)


def read_document(path: Path, *, key: str, file: str, uri: str) -> Document:
    """Read and parse one file, JSON by its name or its first character. Raises DescriptionError."""
    content = read_bytes(path, file)
    text = decode(content, file)
    is_json = _is_json(path, text)
    value = read_json(text, file) if is_json else read_yaml(text, file)
    digest = hashlib.sha256(content).hexdigest()
    document = Document(key, file, uri, path, text, is_json, digest, value)
    _check_bounds(document)
    return document


def _check_bounds(document: Document) -> None:
    """Note the size and the references of a document. Raises LimitError."""
    try:
        found = survey(document.value)
    except TooBigError as error:
        if error.deep and document.is_json:
            raise too_deep(document.text, document.file) from None
        hint = "split the description into files"
        raise LimitError(error.what, location=Location(document.file, 1, 1, ""), hint=hint) from None
    document.nodes, document.references, document.has_ids = found.nodes, found.references, found.has_ids


def _is_json(path: Path, text: str) -> bool:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return False
    return suffix == ".json" or text.lstrip()[:1] in ("{", "[")


class Library:
    """All documents of a description by key and by URI."""

    def __init__(self, path: Path, *, allow_remote: Mapping[str, Path], allow_folders: Sequence[Path]) -> None:
        self._given = path
        self._folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120  (resolve() would follow symlinks)
        self._inside = [os.path.realpath(folder) for folder in [self._folder, *map(os.fspath, allow_folders)]]
        self._remote = dict(allow_remote)
        self._by_uri: dict[str, Document] = {}
        self._by_key: dict[str, Document] = {}
        self._failed: dict[str, DescriptionError] = {}
        self._resources: dict[str, tuple[Document, str]] = {}
        self._anchors: dict[tuple[str, str], tuple[Document, str]] = {}
        self._resolved: dict[tuple[str, str, str], Node] = {}
        self._overlays: dict[str, Document] = {}
        self._bytes = 0
        self._origins: Origins | None = None
        self._knows_ids = False
        name = os.path.basename(path)  # noqa: PTH119
        self.root = read_document(path, key=name, file=str(path), uri=_file_uri(os.path.join(self._folder, name)))  # noqa: PTH118
        self._add(self.root)

    def gather(self, *, knows_ids: bool) -> None:
        """Read every document that is referred to, once. `knows_ids`: OpenAPI 3.1, where schemas may have `$id`.

        A reference that cannot be followed is an error only when something asks for it: it may stand in an example.
        """
        self._knows_ids = knows_ids
        waiting = deque([self.root])
        while waiting:
            document = waiting.popleft()
            for uri in sorted(set(self._targets(document))):
                found = self._obtain(uri)
                if found is not None:
                    waiting.append(found)

    def add_overlay(self, overlay: Document) -> None:
        """Make nodes of an overlay locatable. Overlays take part in the digest, in the order of this call."""
        self._overlays[overlay.key] = overlay

    def replace_root(self, value: Any, origins: Origins) -> None:
        """Put what the overlays made in place of what the file holds. Raises LimitError."""
        self.root.value = value
        self._origins = origins
        _check_bounds(self.root)

    @property
    def documents(self) -> dict[str, Any]:
        """Parsed roots by key."""
        return {key: document.value for key, document in sorted(self._by_key.items())}

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that was read, overlays last."""
        return tuple(document.path for document in [*self._by_key.values(), *self._overlays.values()])

    def digests(self) -> list[tuple[str, str]]:
        """Key and SHA-256 of each document, the root first, overlays last."""
        others = sorted((d.key, d.sha256) for d in self._by_key.values() if d is not self.root)
        overlays = [("overlay", overlay.sha256) for overlay in self._overlays.values()]
        return [(self.root.key, self.root.sha256), *others, *overlays]

    def node(self, document: Document, pointer: str = "") -> Node:
        """The node at a pointer that exists."""
        value = document.value
        for token in split(pointer):
            value = step(value, token)
        return Node(document.key, pointer, value)

    def node_or_none(self, document: Document, pointer: str) -> Node:
        """The node at a pointer, whose value is None where it does not exist."""
        try:
            return self.node(document, pointer)
        except KeyError:
            return Node(document.key, pointer, None)

    def locate(self, node: Node) -> Location:
        """File, line and column; a node that an overlay brought is located in the overlay."""
        document = self._by_key.get(node.document) or self._overlays[node.document]
        pointer = node.pointer
        if self._origins is not None and document is self.root:
            document, pointer = self._origins.trace(document, pointer)
        return document.locate(pointer)

    def resolve(self, node: Node, reference: str) -> Node:
        """What `reference` names, seen from `node` (RFC 3986 §5, RFC 6901 §6). Raises Fault at `node`."""
        if len(reference) > MAX_REFERENCE_CHARS:
            hint = "give what it names a shorter name"
            raise Fault(f"a `$ref` of more than {MAX_REFERENCE_CHARS} characters", node, hint=hint)
        key = (node.document, self._base_pointer(node), reference)
        if key not in self._resolved:
            target = self._find(node, reference)
            self._check_chain(node, target)
            self._resolved[key] = target
        return self._resolved[key]

    def _check_chain(self, node: Node, target: Node) -> None:
        """A chain of references must end. Those in between are checked here, so that no consumer can be caught."""
        seen = {(target.document, target.pointer)}
        while isinstance(target.value, dict) and isinstance(reference := target.value.get("$ref"), str):
            target = self._find(target, reference)
            place_ = (target.document, target.pointer)
            if place_ in seen:
                raise Fault("`$ref`s that lead in a circle", node, hint="let one of them name a real object")
            seen.add(place_)
            if len(seen) > MAX_REFERENCE_HOPS:
                hint = "refer to the last one directly"
                raise Fault(f"a chain of more than {MAX_REFERENCE_HOPS} `$ref`s", node, hint=hint)

    def _find(self, node: Node, reference: str) -> Node:
        document = self._by_key[node.document]
        pointer = self._base_pointer(node)
        address, fragment = urldefrag(reference) if "#" in reference else (reference, "")
        if address:
            document, pointer = self._document_at(node, self._join(node, document, pointer, address))
        try:
            name = unquote(fragment, errors="strict")
        except UnicodeDecodeError:
            raise Fault(
                f"`$ref` to `{reference}`, whose escapes are no UTF-8", node, hint="correct the escapes"
            ) from None
        if name and not name.startswith("/"):
            return self._anchored(node, document, pointer, name)
        return self._pointed(node, document, pointer, name, reference)

    def _pointed(self, node: Node, document: Document, base: str, name: str, reference: str) -> Node:
        pointer = base + name
        value = document.value
        try:
            for token in split(pointer):
                value = step(value, token)
        except (KeyError, ValueError):
            raise Fault(f"`$ref` to `{reference}`, which does not exist", node, hint="correct the reference") from None
        return Node(document.key, pointer, value)

    def _anchored(self, node: Node, document: Document, base: str, name: str) -> Node:
        uri = document.bases.get(base, document.uri)
        if (uri, name) not in self._anchors:
            hint = "references begin with `#/`" if not self._knows_ids else "define it with `$anchor`"
            raise Fault(f"`$ref` to the anchor `{name}`, which does not exist", node, hint=hint)
        document, pointer = self._anchors[uri, name]
        return self.node(document, pointer)

    def _base_pointer(self, node: Node) -> str:
        """The pointer of the closest schema around `node` with an `$id`: `#` begins there (JSON Schema core §8.2.1)."""
        bases = self._by_key[node.document].bases
        if not bases:
            return ""
        pointer = node.pointer
        while pointer and pointer not in bases:
            pointer = pointer.rpartition("/")[0]
        return pointer

    def _join(self, node: Node, document: Document, base: str, address: str) -> str:
        try:
            return _absolute(document.bases.get(base, document.uri), address)
        except ValueError:
            raise Fault(
                f"`$ref` to `{address}`, which is no URI reference", node, hint="correct the reference"
            ) from None

    def _document_at(self, node: Node, uri: str) -> tuple[Document, str]:
        if uri in self._resources:
            return self._resources[uri]
        if uri in self._by_uri:
            return self._by_uri[uri], ""
        error = self._failed.get(uri)
        if error is None:
            # Only what some document refers to was looked at while loading.
            error = (
                _not_allowed(uri) if urlsplit(uri).scheme != _FILE else DescriptionError(f"`{uri}`, which was not read")
            )
        raise Fault(f"`$ref` to {error.message}", node, hint=error.hint)

    def _targets(self, document: Document) -> Iterator[str]:
        """The absolute URIs, without fragments, of the documents that this one refers to."""
        found = [("", reference) for reference in document.references]
        if document.has_ids and self._knows_ids:
            found = self._index(document)
        for pointer, reference in found:
            if len(reference) > MAX_REFERENCE_CHARS:
                continue
            base = self._base_pointer(Node(document.key, pointer, None))
            try:
                yield _absolute(document.bases.get(base, document.uri), reference)
            except ValueError:
                continue

    def _index(self, document: Document) -> list[tuple[str, str]]:
        """Learn the `$id`s and anchors of a document; returns its references with their pointers."""
        found = resources(document.value)
        for pointer, identifier in found.ids.items():
            base = self._base_pointer(Node(document.key, pointer, None))
            try:
                uri = _absolute(document.bases.get(base, document.uri), identifier)
            except ValueError:
                continue
            document.bases[pointer] = uri
            self._resources.setdefault(uri, (document, pointer))
        for pointer, anchor in found.anchors:
            base = self._base_pointer(Node(document.key, pointer, None))
            self._anchors.setdefault((document.bases.get(base, document.uri), anchor), (document, pointer))
        return found.references

    def _obtain(self, uri: str) -> Document | None:
        """Read the document at `uri` if it is new and allowed."""
        if uri in self._by_uri or uri in self._resources or uri in self._failed:
            return None
        try:
            document = self._read(uri)
        except LimitError:
            raise
        except DescriptionError as error:
            self._failed[uri] = error
            return None
        self._add(document)
        return document

    def _read(self, uri: str) -> Document:
        try:
            parts = urlsplit(uri)
        except ValueError:
            raise DescriptionError(f"`{uri}`, which is no URI", hint="correct the reference") from None
        if parts.scheme == _FILE and not parts.netloc and not parts.query:
            return self._read_local(uri, unquote(parts.path))
        local = self._copy_of(uri)
        if local is None:
            raise _not_allowed(uri)
        return read_document(local, key=uri, file=str(local), uri=uri)

    def _read_local(self, uri: str, absolute: str) -> Document:
        key = os.path.relpath(absolute, self._folder) if "\0" not in absolute else "?"
        shown = os.path.normpath(os.path.join(os.path.dirname(self._given), key))  # noqa: PTH118, PTH120
        # INVARIANT: what is checked is what is opened: the path after all symbolic links.
        real = os.path.realpath(absolute) if "\0" not in absolute else ""
        if not any(_is_within(real, folder) for folder in self._inside):
            hint = "move it into the description's folder, or allow its folder by name"
            raise DescriptionError(f"`{key}`, which lies outside the description's folder", hint=hint)
        try:
            return read_document(Path(real), key=key, file=shown, uri=uri)
        except LimitError:
            raise
        except DescriptionError as error:
            raise DescriptionError(f"`{error}`", location=error.location, hint=error.hint) from None

    def _copy_of(self, uri: str) -> Path | None:
        """The local copy of a remote document: a URL has a file, a URL that ends in `/` a folder."""
        if uri in self._remote:
            return self._remote[uri]
        for prefix, folder in sorted(self._remote.items(), key=lambda item: -len(item[0])):
            if prefix.endswith("/") and uri.startswith(prefix):
                real = os.path.realpath(os.path.join(folder, unquote(uri.removeprefix(prefix)).lstrip("/")))  # noqa: PTH118
                return Path(real) if _is_within(real, os.path.realpath(folder)) else None
        return None

    def _add(self, document: Document) -> None:
        self._by_uri[document.uri] = document
        self._by_key[document.key] = document
        self._bytes += len(document.text)
        if len(self._by_key) > MAX_DOCUMENTS or self._bytes > MAX_TOTAL_BYTES:
            what = f"more than {MAX_DOCUMENTS} files or {MAX_TOTAL_BYTES} bytes of description"
            raise LimitError(what, location=Location(document.file, 1, 1), hint="bundle or shorten the description")


def _absolute(base: str, reference: str) -> str:
    """The URI, without fragment, of the document that `reference` names; each file has one spelling."""
    uri = urldefrag(urljoin(base, reference)).url
    parts = urlsplit(uri)
    if parts.scheme == _FILE and not parts.netloc and not parts.query:
        return _file_uri(os.path.normpath(unquote(parts.path)))
    return uri


def _file_uri(absolute: str) -> str:
    return "file://" + quote(absolute)


def _not_allowed(uri: str) -> DescriptionError:
    hint = f"allow `{uri}` by name with a local copy; nothing is fetched"
    return DescriptionError(f"`{uri}`, which is remote and not allowed", hint=hint)


def _is_within(real: str, folder: str) -> bool:
    return real.startswith(folder.rstrip("/") + "/")
