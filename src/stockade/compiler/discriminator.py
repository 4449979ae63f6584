"""`discriminator`: which names choose which schema (OpenAPI 3.0.4 §4.7.25, 3.1.1 §4.8.25).

The name of a component chooses it, and so does each entry of `mapping`; a value that chooses nothing is invalid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockade.compiler.errors import UnsupportedError
from stockade.compiler.references import Place, References
from stockade.spec.model import Description

_COMPONENT = re.compile(r"/components/schemas/([^/]+)\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
Identity = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Discriminator:
    """`mapping` leads from a value of the property to the identity of the schema it chooses."""

    property_name: str
    mapping: Mapping[str, Identity]


@dataclass(slots=True)
class Discriminators:
    """The discriminators of one description, and which components extend which."""

    description: Description
    references: References
    _children: dict[Identity, list[Place]] | None = field(default=None)

    def read(self, place: Place) -> Discriminator | None:
        """The discriminator of a schema. Entries of `mapping` that lead nowhere choose nothing."""
        value = place.value.get("discriminator") if isinstance(place.value, dict) else None
        if not isinstance(value, dict) or not isinstance(value.get("propertyName"), str):
            return None
        mapping = value.get("mapping")
        chosen: dict[str, Identity] = {}
        for name, target in (mapping if isinstance(mapping, dict) else {}).items():
            found = self._mapped(place, target)
            if found is not None:
                chosen[name] = found[:2]
        return Discriminator(value["propertyName"], chosen)

    def _mapped(self, place: Place, target: Any) -> Place | None:
        """A mapping's target is the name of a component or a reference."""
        if not isinstance(target, str):
            return None
        for reference in (f"#/components/schemas/{target}" if _PLAIN_NAME.match(target) else None, target):
            if reference is not None:
                try:
                    return self.references.target(place, reference)
                except UnsupportedError:
                    continue
        return None

    def mapped_places(self, place: Place) -> list[Place]:
        """The schemas that the mapping names, in its order, each once."""
        mapping = place.value["discriminator"].get("mapping")
        found: dict[Identity, Place] = {}
        for target in (mapping if isinstance(mapping, dict) else {}).values():
            mapped = self._mapped(place, target)
            if mapped is not None:
                found.setdefault(mapped[:2], mapped)
        return list(found.values())

    def names(self, discriminator: Discriminator, target: Place, reference: str | None) -> list[str]:
        """The values that choose `target`, which the description calls `reference`; sorted.

        Where the target chooses further by the same property, so do the values for its own choices.
        """
        names: set[str] = set()
        seen: set[Identity] = set()
        waiting = [(discriminator, target, reference)]
        while waiting:
            chooser, place, called = waiting.pop()
            names.update(name for name, identity in chooser.mapping.items() if identity == place[:2])
            for pointer in (place.pointer, (called or "").rpartition("#")[2]):
                component = _COMPONENT.search(pointer)
                if component:
                    names.add(component.group(1).replace("~1", "/").replace("~0", "~"))
            inner = self.read(place) if place[:2] not in seen else None
            seen.add(place[:2])
            if inner is not None and inner.property_name == discriminator.property_name:
                waiting += [(inner, branch, branch_reference) for branch, branch_reference in self._branches(place)]
        return sorted(names)

    def _branches(self, target: Place) -> list[tuple[Place, str | None]]:
        """What a schema with a discriminator of its own may stand for."""
        found: list[tuple[Place, str | None]] = []
        for keyword in ("oneOf", "anyOf"):
            for schema in target.value.get(keyword) or ():
                reference = self.references.reference(schema)
                if reference is not None:
                    found.append((self.references.target(target, reference), reference))
        return found + [(child, None) for child in self.descendants(target)]

    def descendants(self, place: Place) -> list[Place]:
        """The components whose `allOf` leads to `place`, directly or through others, in the description's order."""
        found: dict[Identity, Place] = {}
        waiting = [place[:2]]
        while waiting:
            for child in self._extensions().get(waiting.pop(), ()):
                if child[:2] not in found and child[:2] != place[:2]:
                    found[child[:2]] = child
                    waiting.append(child[:2])
        return sorted(found.values(), key=lambda child: child[:2])

    def _extensions(self) -> dict[Identity, list[Place]]:
        if self._children is None:
            self._children = {}
            for document, root in sorted(self.description.documents.items()):
                for place in _components(document, root):
                    self._note_parents(place, self._children)
        return self._children

    def _note_parents(self, place: Place, children: dict[Identity, list[Place]]) -> None:
        all_of = place.value.get("allOf")
        for schema in all_of if isinstance(all_of, list) else ():
            reference = self.references.reference(schema)
            if reference is None:
                continue
            try:
                parent = self.references.target(place, reference)
            except UnsupportedError:
                continue
            children.setdefault(parent[:2], []).append(place)


def _components(document: str, root: Any) -> list[Place]:
    components = root.get("components") if isinstance(root, dict) else None
    schemas = components.get("schemas") if isinstance(components, dict) else None
    if not isinstance(schemas, dict):
        return []
    place = Place(document, "", root)
    return [place.child("components", "schemas", name) for name, value in schemas.items() if isinstance(value, dict)]
