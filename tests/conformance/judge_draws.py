"""Requests that Schemathesis draws from a description, and what it calls them."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from schemathesis.core.errors import InvalidSchema, SerializationNotPossible
from schemathesis.generation.modes import GenerationMode

from stockade import spec
from stockade.compiler import compile_bundle
from stockade.enforcement.engine import Denial, Engine, Identity, Request, check_schemas
from stockade.policy import build

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("STOCKADE_SHARED") or ROOT.parent / "shared") / "openapi"
NOW = 1764018000
TOKEN = "stk_at_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEnwVZCw"
KEY = "stk_ak_CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoil0RFQ"
CASE_ID = "x-schemathesis-testcaseid"
MAX_ENUMERATED = 1500
POLICY = {
    "limits": {"per_address": None, "per_client": None},
    "validation": {"unknown_properties": {"request": "allow", "response": "allow"}},
}
"""As the standard has it: properties that nothing declares are allowed; our own default is tested elsewhere."""


@dataclass(frozen=True)
class Draw:
    """One request as it goes over the wire, without credentials. `valid` is Schemathesis' word for it.

    `values` are the parameters and the body before they became bytes; `entry` is the operation in the bundle;
    `keyword` is the schema location that an invalid one breaks, where Schemathesis tells.
    """

    id: str
    operation: str
    valid: bool
    what: str
    scenario: str | None
    location: str | None
    keyword: str | None
    method: str
    target: str
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    values: dict[str, Any] = field(repr=False)
    entry: dict[str, Any] = field(repr=False)

    @property
    def content_type(self) -> str:
        """Essence of the body's media type; empty where there is none."""
        value = next((value for name, value in self.headers if name.lower() == "content-type"), b"")
        return value.decode("latin-1").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Subject:
    """A description, compiled, in front of the judge. `skipped`: operations that Schemathesis cannot draw from."""

    name: str
    document: dict[str, Any]
    payload: dict[str, Any]
    engine: Engine
    skipped: list[str] = field(default_factory=list)

    def draws(self, *, fuzzed: int, enumerated: int, step: int = 1) -> Iterator[Draw]:
        """At most `enumerated` boundary cases and twice `fuzzed` random ones for every `step`-th operation."""
        config = SchemathesisConfig.from_dict(
            {"generation": {"with-security-parameters": False, "deterministic": True}}
        )
        schema = schemathesis.openapi.from_dict(self.document, config=config)
        entries = {entry["pointer"]: entry for entry in self.payload["operations"]}
        for index, result in enumerate(schema.get_all_operations()):
            if index % step:
                continue
            operation = result.ok()
            escaped = operation.path.replace("~", "~0").replace("/", "~1")
            entry = entries[f"/paths/{escaped}/{operation.method.lower()}"]
            cases = [*self._enumerate(schema, operation, enumerated), *self._fuzz(operation, fuzzed)]
            for number, case in enumerate(cases):
                with contextlib.suppress(SerializationNotPossible):
                    yield _draw(case, entry, f"{index}-{number}")

    def decide(self, draw: Draw) -> tuple[str, Denial | None]:
        """The engine's outcome for a caller with every scope, and why it refused."""
        authentication = self.payload["authentication"]
        everything = {
            secret: Identity(
                "judge", "judge", tuple(authentication["scopes_supported"]), authentication["issuer"],
                (authentication["audience"],), None, kind,
            )
            for secret, kind in ((TOKEN, "access_token"), (KEY, "api_key"))
        }  # fmt: skip
        target, headers = credentialed(draw, TOKEN, KEY)
        request = Request(draw.method, target, [("Host", "api.example"), *headers], draw.body, client_certificate=True)
        decision = self.engine.decide_request(request, identities=everything, now=NOW)
        return decision.outcome, decision.denial

    def _enumerate(self, schema: Any, operation: Any, most: int) -> list[Any]:
        """Its boundary values, thinned out evenly."""
        config = schema.config.generation_for(operation=operation, phase="coverage")
        found: list[Any] = []
        try:
            for case in schema.iter_coverage_cases(
                operation, generation_modes=list(GenerationMode), generation_config=config
            ):
                found.append(case)
                if len(found) == MAX_ENUMERATED:
                    break
        except InvalidSchema as error:
            self.skipped.append(f"{operation.label}: {str(error).splitlines()[0]}")
        return found[:: max(1, -(-len(found) // most))]

    def _fuzz(self, operation: Any, most: int) -> list[Any]:
        found: list[Any] = []
        for mode in GenerationMode:
            # Where nothing can be made invalid (no parameters, any text will do) there is nothing to draw.
            with contextlib.suppress(Unsatisfiable, InvalidSchema):
                _collect(operation.as_strategy(generation_mode=mode), found, most)
        return found


def credentialed(draw: Draw, token: str, key: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Target and fields with what the operation's first alternative asks for, in place of what was drawn there."""
    target, headers = draw.target, list(draw.headers)
    for requirement in draw.entry["security"][0] if draw.entry["security"] else []:
        if requirement["kind"] == "token":
            headers = _put(headers, "Authorization", f"Bearer {token}")
        elif requirement["kind"] == "api_key" and requirement["in"] == "query":
            target += f"{'&' if '?' in target else '?'}{requirement['name']}={key}"
        elif requirement["kind"] == "api_key" and requirement["in"] == "cookie":
            headers.append(("Cookie", f"{requirement['name']}={key}".encode()))
        elif requirement["kind"] == "api_key":
            headers = _put(headers, requirement["name"], key)
    return target, headers


def compiled(name: str, document: dict[str, Any], folder: Path) -> Subject:
    """The subject of a description that stands in one document."""
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    policy = build({"api": {"description": str(path), "upstream": "http://127.0.0.1:9000"}, **POLICY})
    bundle = compile_bundle(spec.load(path), policy, check_schemas=check_schemas)
    return Subject(name, document, json.loads(bundle.payload), Engine.from_payload(bundle.payload))


def read(path: Path) -> dict[str, Any]:
    """A description as plain values."""
    content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    # A JSON round trip turns YAML's dates back into text.
    found = json.loads(content) if ".json" in path.suffixes else yaml.load(content, _NoDates)  # noqa: S506  # a SafeLoader
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


class _NoDates(yaml.SafeLoader):
    """YAML's core schema: a date is text."""


_NoDates.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _collect(strategy: Any, into: list[Any], most: int) -> None:
    @settings(
        derandomize=True, database=None, max_examples=most, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(strategy)
    def collect(case: Any) -> None:
        into.append(case)

    collect()


def _draw(case: Any, entry: dict[str, Any], number: str) -> Draw:
    prefix = entry["paths"][0].removesuffix(case.operation.path)
    wire = requests.Request(**case.as_transport_kwargs(base_url=f"http://api.example{prefix}")).prepare()
    headers = tuple(
        (name, value if isinstance(value, bytes) else str(value).encode("latin-1"))
        for name, value in wire.headers.items()
        if name.lower() != CASE_ID
    )
    data = case.meta.phase.data
    scenario = getattr(data, "scenario", None)
    body = wire.body or b""
    return Draw(
        id=number,
        operation=case.operation.label,
        valid=case.meta.generation.mode.is_positive,
        what=data.description or "",
        scenario=scenario.value if scenario else None,
        location=data.parameter_location.value if data.parameter_location else None,
        keyword=data.location,
        method=wire.method or "",
        target=wire.path_url,
        headers=headers,
        body=body.encode() if isinstance(body, str) else body,
        values={
            "path": dict(case.path_parameters),
            "query": dict(case.query),
            "header": dict(case.headers),
            "cookie": dict(case.cookies),
            "body": None if isinstance(case.body, NotSet) else case.body,
        },
        entry=entry,
    )


def _put(headers: list[tuple[str, bytes]], name: str, value: str) -> list[tuple[str, bytes]]:
    return [field for field in headers if field[0].lower() != name.lower()] + [(name, value.encode())]
