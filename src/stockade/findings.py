"""Findings: what a check found, for people, programs and code scanning (SARIF 2.1.0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stockade import __version__
from stockade.errors import Location

Severity = Literal["high", "medium", "low", "info"]
Confidence = Literal["certain", "firm", "tentative"]
Level = Literal["error", "warning", "note"]

_LEVELS: Mapping[Severity, Level] = {"high": "error", "medium": "warning", "low": "note", "info": "note"}
# GitHub reads this number (0 to 10) as the severity of a security finding.
_SECURITY_SEVERITY: Mapping[Severity, str] = {"high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that is looked for. `id` is stable; `references` are names like `API4:2023` or `CWE-770`."""

    id: str
    title: str
    severity: Severity
    hint: str
    references: tuple[str, ...] = ()
    confidence: Confidence = "certain"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a check found something. `hint` says what to do; `evidence` never holds a secret."""

    check: str
    severity: Severity
    confidence: Confidence
    message: str
    hint: str
    location: Location | None = None
    operation: str | None = None
    evidence: str | None = None

    @property
    def level(self) -> Level:
        """SARIF's word for the severity."""
        return _LEVELS[self.severity]

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not known is left out."""
        place = self.location
        fields: dict[str, Any] = {
            "check": self.check,
            "severity": self.severity,
            "level": self.level,
            "confidence": self.confidence,
            "message": self.message,
            "hint": self.hint,
            "operation": self.operation,
            "evidence": self.evidence,
        }
        if place is not None:
            fields |= {"file": place.file, "line": place.line, "column": place.column, "pointer": place.pointer}
        return {name: value for name, value in fields.items() if value is not None}


def to_sarif(findings: Iterable[Finding], checks: Iterable[Check] = ()) -> dict[str, Any]:
    """A SARIF 2.1.0 log with one run. `checks` describe the rules; a rule without one is named by its findings."""
    found = list(findings)
    rules = {check.id: _rule(check) for check in checks}
    for finding in found:
        rules.setdefault(finding.check, {"id": finding.check})
    index = {name: number for number, name in enumerate(rules)}
    driver = {"name": "stockade", "version": __version__, "rules": list(rules.values())}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, index[finding.check]) for finding in found],
    }
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "help": {"text": check.hint},
        "defaultConfiguration": {"level": _LEVELS[check.severity]},
        "properties": {
            "tags": ["security", *check.references],
            "security-severity": _SECURITY_SEVERITY[check.severity],
        },
    }


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.check,
        "ruleIndex": rule,
        "level": finding.level,
        "message": {"text": f"{finding.message}. {finding.hint}"},
    }
    if finding.location is not None:
        result["locations"] = [_location(finding.location, finding.operation)]
    return result


def _location(place: Location, operation: str | None) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": place.file.replace("\\", "/")}}
    if place.line is not None:
        physical["region"] = {"startLine": place.line, "startColumn": place.column or 1}
    location: dict[str, Any] = {"physicalLocation": physical}
    name = operation or place.pointer
    if name:
        location["logicalLocations"] = [{"fullyQualifiedName": name}]
    return location
