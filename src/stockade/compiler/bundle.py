"""Description and policy → the bundle's payload. Pure: no files, no clock, the same inputs give the same bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from stockade.compiler.coverage import Coverage, Note, OperationCoverage
from stockade.compiler.errors import Construct
from stockade.compiler.operations import CompiledOperation, base_paths, compile_operation
from stockade.compiler.schemas import SchemaCompiler, is_known_dialect
from stockade.compiler.security import check_scheme_names, supported_scopes
from stockade.errors import BundleError
from stockade.policy import Policy
from stockade.policy.extensions import SchemaExtension, read_extension
from stockade.policy.model import Cors
from stockade.spec.model import Description, Operation

FORMAT = 1


class SchemaProblem(Protocol):
    """A schema that the engine cannot build: its key, and why."""

    @property
    def schema(self) -> str:
        """Key of the bundle's `schemas`."""

    @property
    def message(self) -> str:
        """For the operator."""


CheckSchemas = Callable[[str, dict[str, Any]], list[Any]]
"""`check_schemas(dialect, schemas)` of the engine → a SchemaProblem for each key that cannot be built."""


@dataclass(frozen=True, slots=True)
class CompileWarning:
    """What the operator should know and the compiler could do without."""

    message: str
    pointer: str | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """`payload` is canonical JSON, to be signed."""

    payload: bytes
    coverage: Coverage
    warnings: tuple[CompileWarning, ...]


def compile_bundle(description: Description, policy: Policy, *, check_schemas: CheckSchemas) -> Compiled:
    """Compile everything. What cannot be enforced is denied, and named in `coverage`.

    Raises PolicyError for a wrong `x-stockade` or a policy that does not fit the description, BundleError for a
    description that no bundle can hold.
    """
    check_scheme_names(description, policy)
    schemas = SchemaCompiler(description)
    operations = list(_compile_operations(description, policy, schemas))
    closures = _Closures(schemas)
    _deny_unusable(operations, schemas, closures)
    emitted = _settle(description, operations, schemas, closures, check_schemas)
    _check_schema_extensions(description, schemas)
    payload = _payload(description, policy, operations, schemas, emitted)
    coverage = _coverage(description, operations, schemas, closures)
    return Compiled(_encode(payload), coverage, tuple(_warnings(description, policy, schemas)))


# Operations


def _compile_operations(
    description: Description, policy: Policy, schemas: SchemaCompiler
) -> Iterator[CompiledOperation]:
    ordered = sorted(description.operations, key=lambda each: (base_paths(each, policy)[:1], each.method.upper()))
    names = Counter(operation.operation_id for operation in ordered)
    taken: set[tuple[str, str]] = set()
    dialect = description.root.value.get("jsonSchemaDialect") if isinstance(description.root.value, dict) else None
    for operation in ordered:
        compiled = compile_operation(description, policy, schemas, operation, _identifier(operation, names))
        if dialect is not None and not is_known_dialect(dialect):
            compiled.deny(Construct(f"the JSON Schema dialect `{dialect}`", "/jsonSchemaDialect"))
        twins = [path for path in compiled.entry["paths"] if (compiled.entry["method"], _anonymous(path)) in taken]
        if twins:
            compiled.deny(Construct("a second path template for the same paths", operation.node.pointer))
            compiled.entry["paths"] = [path for path in compiled.entry["paths"] if path not in twins]
        taken.update((compiled.entry["method"], _anonymous(path)) for path in compiled.entry["paths"])
        yield compiled


def _identifier(operation: Operation, names: Counter[str | None]) -> str:
    """The `operationId` where it is one operation's alone."""
    if operation.operation_id and names[operation.operation_id] == 1:
        return operation.operation_id
    return f"{operation.method.upper()} {operation.path_template}"


def _anonymous(path: str) -> str:
    return re.sub(r"\{[^{}]*\}", "{}", path)


# Which schemas are needed, and which operations fall with those that cannot be had


class _Closures:
    """All keys that a key leads to, itself included."""

    def __init__(self, schemas: SchemaCompiler) -> None:
        self._definitions = schemas.definitions

    def of(self, keys: Iterator[str] | dict[str, None]) -> dict[str, None]:
        found = dict.fromkeys(keys)
        waiting = list(found)
        while waiting:
            for reference in self._definitions[waiting.pop()].references:
                if reference not in found:
                    found[reference] = None
                    waiting.append(reference)
        return found


def _deny_unusable(operations: list[CompiledOperation], schemas: SchemaCompiler, closures: _Closures) -> None:
    """Deny the operations that need a schema with a problem."""
    if all(definition.problem is None for definition in schemas.definitions.values()):
        return
    for compiled in operations:
        problems = (schemas.definitions[key].problem for key in closures.of(compiled.schemas))
        problem = next((problem for problem in problems if problem is not None), None)
        if problem is not None:
            compiled.deny(problem)


def _settle(
    description: Description,
    operations: list[CompiledOperation],
    schemas: SchemaCompiler,
    closures: _Closures,
    check_schemas: CheckSchemas,
) -> dict[str, Any]:
    """The schemas that the operations need, all of which the engine can build."""
    while True:
        needed = closures.of({key: None for compiled in operations for key in compiled.schemas})
        emitted = {key: schemas.definitions[key].schema for key in sorted(needed)}
        problems = {problem.schema: problem.message for problem in check_schemas(description.dialect, emitted)}
        problems |= _unwritable(emitted)
        if not problems:
            return emitted
        for key, message in problems.items():
            if key not in emitted:
                raise BundleError(f"the engine refuses the schemas as a whole: {message}")
            definition = schemas.definitions[key]
            definition.problem = Construct(f"a schema that cannot be built: {message}", definition.pointer)
        _deny_unusable(operations, schemas, closures)


def _unwritable(emitted: dict[str, Any]) -> dict[str, str]:
    """Schemas that JSON cannot carry: infinities, lone surrogates, values that are no JSON."""
    try:
        _encode(emitted)
    except BundleError:
        pass
    else:
        return {}
    problems = {}
    for key, schema in emitted.items():
        try:
            _encode(schema)
        except BundleError as error:
            problems[key] = error.message
    return problems


def _check_schema_extensions(description: Description, schemas: SchemaCompiler) -> None:
    for node in schemas.extensions.values():
        value = node.value["x-stockade"]
        read_extension(
            SchemaExtension, value, type(node)(node.document, f"{node.pointer}/x-stockade", value), description
        )


# The payload


def _payload(
    description: Description,
    policy: Policy,
    operations: list[CompiledOperation],
    schemas: SchemaCompiler,
    emitted: dict[str, Any],
) -> dict[str, Any]:
    limits = policy.limits
    return {
        "format": FORMAT,
        "description": {
            "title": description.title,
            "version": description.version,
            "source": description.source,
            "sha256": description.sha256,
        },
        "dialect": description.dialect,
        "hosts": sorted(policy.api.hosts),
        "authentication": {
            "issuer": policy.issuer,
            "audience": policy.audience,
            "scopes_supported": supported_scopes(description, [compiled.security for compiled in operations]),
            "dpop": {"origins": list(policy.origins), **policy.identity.dpop.model_dump()},
            "acr_order": list(policy.acr_order),
        },
        "cors": None if policy.cors is None else _cors(policy.cors),
        "limits": {
            "per_address": limits.per_address.model_dump() if limits.per_address is not None else None,
            "per_client": limits.per_client.model_dump() if limits.per_client is not None else None,
            "max_tracked_keys": limits.max_tracked_keys,
        },
        "sizes": limits.sizes.model_dump(),
        "problem_base": policy.problem_base,
        "schemas": emitted,
        "schema_pointers": {key: schemas.definitions[key].pointer for key in emitted},
        "operations": [compiled.entry for compiled in operations if compiled.entry["paths"]],
    }


# What a script must read of a refusal to go on: the challenge (RFC 6750 §3, RFC 9470 §3) and the nonce (RFC 9449 §8.2).
_NEEDED_BY_SCRIPTS = ("WWW-Authenticate", "DPoP-Nonce")


def _cors(cors: Cors) -> dict[str, Any]:
    named = {name.lower() for name in cors.expose_headers}
    needed = [name for name in _NEEDED_BY_SCRIPTS if name.lower() not in named]
    return {**cors.model_dump(), "expose_headers": [*cors.expose_headers, *needed]}


def _encode(value: Any) -> bytes:
    """Canonical JSON. Raises BundleError for what JSON cannot carry."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"the description holds a value that JSON cannot carry: {error}") from None


# The report


def _coverage(
    description: Description,
    operations: list[CompiledOperation],
    schemas: SchemaCompiler,
    closures: _Closures,
) -> Coverage:
    return Coverage(
        description.title,
        tuple(_operation_coverage(compiled, schemas, closures) for compiled in operations),
    )


_GAP_WORDS = {
    "unconstrained_string": "a string without length, pattern, format or enum",
    "unconstrained_array": "an array without `maxItems`",
    "unconstrained_number": "a number without minimum and maximum",
    "free_form_object": "an object about whose properties nothing is said",
    "any_value": "a schema that allows any value",
}


def _operation_coverage(compiled: CompiledOperation, schemas: SchemaCompiler, closures: _Closures) -> OperationCoverage:
    notes = dict.fromkeys(compiled.notes)
    for key in closures.of(compiled.schemas) if compiled.denied is None else ():
        for gap in schemas.definitions[key].gaps:
            notes[Note(gap.kind, gap.pointer, _GAP_WORDS[gap.kind])] = None
    return OperationCoverage(
        id=compiled.entry["id"],
        method=compiled.entry["method"],
        path=compiled.operation.path_template,
        pointer=compiled.operation.node.pointer,
        denied=compiled.denied.name if compiled.denied is not None else None,
        denied_pointer=compiled.denied.pointer if compiled.denied is not None else None,
        modes=compiled.entry["modes"],
        security=_security_words(compiled),
        notes=tuple(notes),
    )


def _security_words(compiled: CompiledOperation) -> str:
    if compiled.denied is not None:
        return "denied"
    alternatives = compiled.security.alternatives
    if compiled.security.is_public:
        return "public" if not any(alternatives) else "public, credentials are optional"
    words = " or ".join(" and ".join(_requirement_words(each) for each in alternative) for alternative in alternatives)
    return words + _sign_in_words(compiled.entry)


def _sign_in_words(entry: dict[str, Any]) -> str:
    acr = f", acr {' or '.join(entry['acr'])}" if entry["acr"] else ""
    recent = f", signed in at most {entry['max_age_seconds']} s ago" if entry["max_age_seconds"] is not None else ""
    return acr + recent


def _requirement_words(requirement: dict[str, Any]) -> str:
    if requirement["kind"] == "mutual_tls":
        return "client certificate"
    what = "token" if requirement["kind"] == "token" else f"API key in {requirement['in']} `{requirement['name']}`"
    scopes = requirement["scopes"]
    return f"{what} with {' '.join(scopes)}" if scopes else what


def _warnings(description: Description, policy: Policy, schemas: SchemaCompiler) -> Iterator[CompileWarning]:
    for message, location in policy.warnings:
        yield CompileWarning(f"{location}: {message}" if location is not None else message)
    for message, node in description.warnings:
        yield CompileWarning(message, node.pointer)
    for pointer, keyword in schemas.ignored:
        yield CompileWarning(
            f"keyword `{keyword}` means nothing in OpenAPI {description.openapi}: it is ignored", pointer
        )
    for node in schemas.extensions.values():
        yield CompileWarning("`x-stockade` of a schema is not enforced yet", f"{node.pointer}/x-stockade")
