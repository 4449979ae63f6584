"""OpenAPI Overlay 1.0: actions on the root document, applied in order before anything is made of it.

The document is never changed in place: containers on the way to a target are copied once, so a value that YAML aliases
share changes only where the target says. For every copied container it is remembered where its members came from, so
that a later error points into the overlay that caused it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from stockade.errors import DescriptionError
from stockade.spec.jsonpath import QueryBudget, QueryError, query
from stockade.spec.limits import OVERLAY_STEPS, OVERLAY_STEPS_PER_NODE, LimitError
from stockade.spec.pointer import escape, split, step

if TYPE_CHECKING:
    from stockade.spec.library import Document

Origin = tuple["Document", str]
"""The document in which a value was written, and its pointer there."""

Steps = tuple[str | int, ...]

_VERSION = re.compile(r"1\.0\.[0-9]+\Z")
_ROOT_FIELDS = frozenset(["overlay", "info", "extends", "actions"])
_ACTION_FIELDS = frozenset(["target", "description", "update", "remove"])


class Origins:
    """Where the members of copied containers came from. Containers not known here are as their file has them."""

    def __init__(self) -> None:
        self._by_container: dict[int, tuple[Any, dict[Any, Origin] | list[Origin]]] = {}

    def owns(self, container: Any) -> bool:
        """Whether the container is a copy, and may be changed."""
        return id(container) in self._by_container

    def claim(self, container: Any, origins: dict[Any, Origin] | list[Origin]) -> None:
        """Own a fresh copy whose members came from `origins`."""
        # Holding the container keeps its identity from being given to another one.
        self._by_container[id(container)] = (container, origins)

    def of(self, container: Any) -> Any:
        """By key or index, the origin of each member of a container that is owned."""
        return self._by_container[id(container)][1]

    def trace(self, document: Document, pointer: str) -> Origin:
        """Where the node at `pointer` of the result, or its nearest ancestor, was written.

        `document` is the one that the overlays changed.
        """
        origin: Origin = (document, "")
        value = document.value
        for token in split(pointer):
            try:
                member = step(value, token)
            except KeyError:
                break
            if self.owns(value):
                origin = self.of(value)[int(token) if isinstance(value, list) else token]
            else:
                origin = (origin[0], f"{origin[1]}/{escape(token)}")
            value = member
        return origin


class OverlayRun:
    """Applies overlays to one document, in order. `warnings` are (message, document, pointer)."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.value = document.value
        self.origins = Origins()
        self.warnings: list[tuple[str, Document, str]] = []
        self._budget = QueryBudget(OVERLAY_STEPS + OVERLAY_STEPS_PER_NODE * document.nodes)

    def apply(self, overlay: Document) -> None:
        """Apply every action of one overlay. Raises DescriptionError with a place in the overlay."""
        self._check(overlay)
        for index, action in enumerate(overlay.value["actions"]):
            pointer = f"/actions/{index}"
            self._check_action(overlay, pointer, action)
            try:
                self._act(overlay, pointer, action)
            except QueryError as error:
                self._refuse(error.message, overlay, f"{pointer}/target", hint=error.hint)

    def _check(self, overlay: Document) -> None:
        root = overlay.value
        if not isinstance(root, dict) or not isinstance(version := root.get("overlay"), str):
            self._refuse(
                "not an overlay: the field `overlay` is missing", overlay, "", hint="begin with `overlay: 1.0.0`"
            )
        if not _VERSION.match(version):
            self._refuse(f"overlay version `{version}`", overlay, "/overlay", hint="write the overlay for version 1.0")
        actions = root.get("actions")
        if not isinstance(actions, list) or not actions:
            self._refuse("`actions` must be a list of at least one action", overlay, "/actions", hint="add an action")
        self._warn_unknown(overlay, "", root, _ROOT_FIELDS)
        info = root.get("info")
        if not isinstance(info, dict) or "title" not in info or "version" not in info:
            self.warnings.append(("an overlay without `info` that has a title and a version", overlay, "/info"))
        self._check_extends(overlay, root.get("extends"))

    def _check_extends(self, overlay: Document, extends: Any) -> None:
        if extends is None:
            return
        if not isinstance(extends, str):
            self._refuse(
                "`extends` must be a URI reference", overlay, "/extends", hint="name the description, or drop it"
            )
        name = unquote(urlsplit(extends).path).rpartition("/")[2] if _is_uri(extends) else ""
        if name != self._document.key:
            message = f"an overlay for `{extends}`, applied to `{self._document.key}`"
            self.warnings.append((message, overlay, "/extends"))

    def _check_action(self, overlay: Document, pointer: str, action: Any) -> None:
        if not isinstance(action, dict):
            self._refuse(
                "an action must be an object", overlay, pointer, hint="give it `target` and `update` or `remove`"
            )
        if not isinstance(action.get("target"), str):
            hint = "name what the action changes, as in `$.info`"
            self._refuse("an action needs a `target`, a JSONPath", overlay, pointer, hint=hint)
        if not isinstance(action.get("remove", False), bool):
            self._refuse("`remove` must be true or false", overlay, f"{pointer}/remove", hint="write `remove: true`")
        if action.get("remove") is not True and "update" not in action:
            self._refuse("an action that changes nothing", overlay, pointer, hint="give it `update` or `remove: true`")
        self._warn_unknown(overlay, pointer, action, _ACTION_FIELDS)

    def _warn_unknown(self, overlay: Document, pointer: str, value: dict[str, Any], known: frozenset[str]) -> None:
        for name in value:
            if name not in known and not name.startswith("x-"):
                self.warnings.append((f"the unknown field `{name}`", overlay, f"{pointer}/{escape(name)}"))

    def _act(self, overlay: Document, pointer: str, action: dict[str, Any]) -> None:
        # A node that is named twice is one node; the order of the document is kept.
        targets = list(dict.fromkeys(query(action["target"], self.value, self._budget)))
        if not targets:
            self.warnings.append((f"the target `{action['target']}` matches nothing", overlay, f"{pointer}/target"))
        elif action.get("remove") is True:
            self._remove(overlay, pointer, targets)
        else:
            for steps in targets:
                self._update(overlay, pointer, steps, action["update"])

    def _remove(self, overlay: Document, pointer: str, targets: list[Steps]) -> None:
        # Deepest first and last element first, so that no removal moves or hides another target.
        for steps in sorted(targets, key=_removal_order, reverse=True):
            if not steps:
                self._refuse(
                    "the target is the whole description", overlay, f"{pointer}/target", hint="name a part of it"
                )
            container = self._own(steps[:-1])
            del container[steps[-1]]
            del self.origins.of(container)[steps[-1]]

    def _update(self, overlay: Document, pointer: str, steps: Steps, update: Any) -> None:
        """Overlay 1.0.0 §4.4.3.1: an object is merged into an object, anything is appended to an array."""
        target = self._at(steps)
        origin = (overlay, f"{pointer}/update")
        if isinstance(target, list):
            self._append(self._own(steps), [update], [origin])
        elif not isinstance(target, dict):
            hint = "target the object that holds it, and update its member"
            self._refuse("the target is neither an object nor an array", overlay, f"{pointer}/target", hint=hint)
        elif not isinstance(update, dict):
            hint = "give the members to merge"
            self._refuse("`update` of an object must be an object", overlay, f"{pointer}/update", hint=hint)
        else:
            self._merge(steps, update, origin)

    def _merge(self, steps: Steps, update: dict[str, Any], origin: Origin) -> None:
        """Objects merge member by member, arrays are appended, anything else is replaced."""
        waiting = [(self._own(steps), update, origin)]
        while waiting:
            container, changes, (document, pointer) = waiting.pop()
            self._budget.spend(len(changes))
            for key, value in changes.items():
                source = (document, f"{pointer}/{escape(key)}")
                old = container.get(key)
                if isinstance(old, dict) and isinstance(value, dict):
                    waiting.append((self._own_member(container, key), value, source))
                elif isinstance(old, list) and isinstance(value, list):
                    sources = [(document, f"{source[1]}/{index}") for index in range(len(value))]
                    self._append(self._own_member(container, key), value, sources)
                else:
                    container[key] = value
                    self.origins.of(container)[key] = source

    def _append(self, container: list[Any], values: list[Any], sources: list[Origin]) -> None:
        self._budget.spend(len(values))
        # The values are listed first: an array may be appended to itself.
        container.extend(list(values))
        self.origins.of(container).extend(sources)

    def _at(self, steps: Steps) -> Any:
        value = self.value
        for key in steps:
            value = value[key]
        return value

    def _own(self, steps: Steps) -> Any:
        """The container at `steps`, copied, as is every container above it."""
        if not self.origins.owns(self.value):
            self.value = self._copy(self.value, (self._document, ""))
        container = self.value
        for key in steps:
            container = self._own_member(container, key)
        return container

    def _own_member(self, container: Any, key: str | int) -> Any:
        member = container[key]
        if not self.origins.owns(member):
            member = self._copy(member, self.origins.of(container)[key])
            container[key] = member
        return member

    def _copy(self, container: Any, origin: Origin) -> Any:
        self._budget.spend(len(container))
        document, pointer = origin
        if isinstance(container, dict):
            members = dict(container)
            self.origins.claim(members, {key: (document, f"{pointer}/{escape(key)}") for key in members})
            return members
        elements = list(container)
        self.origins.claim(elements, [(document, f"{pointer}/{index}") for index in range(len(elements))])
        return elements

    def _refuse(self, message: str, overlay: Document, pointer: str, *, hint: str) -> NoReturn:
        kind = LimitError if message == QueryBudget.MESSAGE else DescriptionError
        raise kind(message, location=overlay.locate(pointer), hint=hint)


def _removal_order(steps: Steps) -> tuple[int, int]:
    last = steps[-1] if steps else 0
    return len(steps), last if isinstance(last, int) else 0


def _is_uri(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True
