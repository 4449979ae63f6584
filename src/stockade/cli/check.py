"""`stockade init`, `stockade check` and `stockade compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stockade import compiler, findings
from stockade import policy as policies
from stockade.cli import output
from stockade.cli.inputs import DEFAULT_FILE, Place, read_policy, with_policy
from stockade.control import bundles
from stockade.control.state import open_state, write_atomically
from stockade.errors import InputError
from stockade.policy import Policy

if TYPE_CHECKING:
    from stockade.findings import Finding

FOUND_STATUS = 1
LEVELS = ("error", "warning", "note")


@click.command(epilog="Example: stockade init --description openapi.yaml --upstream http://127.0.0.1:9000")
@click.option("--description", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The OpenAPI file.")
@click.option("--upstream", required=True, metavar="URL", help="Where the API runs.")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(description: Path, upstream: str, target: Path, force: bool) -> None:
    """Write a commented stockade.yaml."""
    if target.exists() and not force:
        raise InputError(f"`{target}` is there already", hint="--force replaces it")
    text = policies.render_initial(description=str(description), upstream=upstream)
    bundles.load_description(Policy.default(description=description, upstream=upstream))
    write_atomically(target, text.encode(), mode=0o644)
    output.say(f"wrote `{target}`; next: `stockade check`, then `stockade up`")


@click.command(epilog="Example: stockade check --format sarif > stockade.sarif")
@with_policy
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON; the same as --format json.")
@click.option("--format", "form", type=click.Choice(["plain", "json", "sarif"]), default="plain", show_default=True)
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings too.")
def check(place: Place, as_json: bool, form: str, strict: bool) -> int:
    """Lint the description, the policy, and the gaps between them. Exit status 1 when there are errors."""
    policy = read_policy(place)
    description = bundles.load_description(policy)
    found = policies.lint(policy, description)
    if as_json or form == "json":
        click.echo(json.dumps([finding.as_json() for finding in found], indent=2, ensure_ascii=False))
    elif form == "sarif":
        click.echo(json.dumps(findings.to_sarif(found), indent=2, ensure_ascii=False))
    else:
        click.echo(_plain(found))
    bad = {"error", "warning"} if strict else {"error"}
    return FOUND_STATUS if any(finding.level in bad for finding in found) else 0


@click.command("compile", epilog="Example: stockade compile openapi.yaml -o bundle.stkb")
@click.argument("source", metavar="[DESCRIPTION]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@with_policy
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write the signed bundle."
)
@click.option("--json", "as_json", is_flag=True, help="The coverage report as JSON.")
def compile_command(place: Place, source: Path | None, target: Path | None, as_json: bool) -> None:
    """Compile the bundle, and report for each operation which layers hold and which are missing."""
    if source is not None:
        place = Place(place.file, source, place.upstream or "http://127.0.0.1:9000", place.state)
    policy = read_policy(place)
    built = bundles.build(policy, open_state(policy.state))
    if target is not None:
        write_atomically(target, built.signed, mode=0o644)
    coverage = built.compiled.coverage
    output.emit(
        {
            **coverage.as_json(),
            "bundle": {
                "file": str(target) if target else None,
                "serial": built.serial,
                "sha256": compiler.payload_digest(built.compiled.payload),
                "bytes": len(built.signed),
                "seconds": round(built.seconds, 3),
            },
        },
        as_json=as_json,
        text=lambda _: coverage.render_text() + _bundle_line(built, target),
    )


def _bundle_line(built: bundles.Built, target: Path | None) -> str:
    where = f"wrote `{target}`: " if target else ""
    digest = compiler.payload_digest(built.compiled.payload)[:16]
    made = f"serial {built.serial}, sha256 {digest}…, {len(built.signed)} bytes, compiled in {built.seconds:.2f} s"
    return f"\n{where}{made}"


def _plain(found: list[Finding]) -> str:
    lines = []
    for finding in found:
        lines.append(f"{finding.location or ''}: {finding.level}: {finding.message} [{finding.check}]".lstrip(": "))
        if finding.hint:
            lines.append(f"    hint: {finding.hint}")
    counts = ", ".join(f"{sum(finding.level == level for finding in found)} {level}s" for level in LEVELS)
    return "\n".join([*lines, counts])
