"""`stockade init`, `stockade check` and `stockade compile`."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stockade import compiler, findings
from stockade import policy as policies
from stockade.cli import output
from stockade.cli.inputs import DEFAULT_FILE, UNASKED_UPSTREAM, Place, from_command_line, read_policy, with_policy
from stockade.control import bundles
from stockade.control.identity_config import OPENID_SCOPES, database_url, scopes_of
from stockade.control.state import StateFolder, open_state, write_atomically
from stockade.errors import InputError, StateError
from stockade.identity import admin
from stockade.identity.client_lint import CHECKS as CLIENT_CHECKS
from stockade.identity.client_lint import lint_clients
from stockade.identity.errors import StorageUnavailable
from stockade.identity.storage import open_storage
from stockade.policy import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.compiler import Compiled
    from stockade.findings import Finding
    from stockade.policy import Policy
    from stockade.spec.model import Description

ALL_CHECKS = (*CHECKS, *CLIENT_CHECKS)
FOUND_STATUS = 1
LEVELS = ("error", "warning", "note")
SHOWN_PER_CHECK = 5


@click.command(epilog="Example: stockade init --description openapi.yaml --upstream http://127.0.0.1:9000")
@click.option(
    "--description",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The OpenAPI file.",
)
@click.option("--upstream", required=True, metavar="URL", help="Where the API runs, such as http://127.0.0.1:9000.")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(description: Path, upstream: str, target: Path, force: bool) -> None:
    """Write a commented stockade.yaml."""
    if target.exists() and not force:
        raise InputError(f"`{target}` is there already", hint="--force replaces it")
    bundles.load_description(from_command_line(description, upstream))
    text = policies.render_initial(description=_from_folder_of(target, description), upstream=upstream)
    write_atomically(target, text.encode(), mode=0o644)
    output.say(f"wrote `{target}`; next: `stockade check`, then `stockade up`")


@click.command(epilog="Example: stockade check --format sarif > stockade.sarif")
@with_policy
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON; the same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["plain", "json", "sarif"]),
    default="plain",
    show_default=True,
    help="How to print the findings; sarif is for code scanning.",
)
@click.option("--all", "show_all", is_flag=True, help="Every place of a finding that has many, in plain form too.")
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings too.")
def check(place: Place, as_json: bool, form: str, show_all: bool, strict: bool) -> int:
    """Lint the description, the policy, the gaps between, the clients.

    Exit status 1 when there are errors. All mistakes of the policy file are shown, not the first alone.
    """
    found = _findings(place)
    if as_json or form == "json":
        click.echo(json.dumps([finding.as_json() for finding in found], indent=2, ensure_ascii=False))
    elif form == "sarif":
        click.echo(json.dumps(findings.to_sarif(found, ALL_CHECKS), indent=2, ensure_ascii=False))
    else:
        click.echo(_plain(found, None if show_all else SHOWN_PER_CHECK))
    bad = {"error", "warning"} if strict else {"error"}
    return FOUND_STATUS if any(finding.level in bad for finding in found) else 0


@click.command("compile", epilog="Example: stockade compile openapi.yaml -o bundle.stkb")
@click.argument("source", metavar="[DESCRIPTION]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@with_policy
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the signed bundle; without it, only the report is made.",
)
@click.option("--all", "show_all", is_flag=True, help="Every note of an operation that has many.")
@click.option("--json", "as_json", is_flag=True, help="The coverage report as JSON, always with every note.")
def compile_command(place: Place, source: Path | None, target: Path | None, show_all: bool, as_json: bool) -> None:
    """Compile the bundle and report what holds for each operation.

    DESCRIPTION goes before the one that stockade.yaml names; without a stockade.yaml, everything else has its default.
    """
    described = replace(place, description=source or place.description)
    if described.policy_file is None and described.upstream is None:
        described = replace(described, upstream=UNASKED_UPSTREAM)
    policy = read_policy(described)
    if target is None:
        started = time.perf_counter()
        compiled = bundles.compile_policy(policy)[1]
        bundle = _bundle(compiled, seconds=time.perf_counter() - started)
    else:
        built = bundles.build(policy, open_state(policy.state))
        write_atomically(target, built.signed, mode=0o644)
        compiled = built.compiled
        written = {"file": str(target), "serial": built.serial, "bytes": len(built.signed)}
        bundle = _bundle(compiled, seconds=built.seconds) | written
    limit = None if show_all else 8
    output.emit(
        compiled.coverage.as_json() | {"bundle": bundle},
        as_json=as_json,
        text=lambda _: compiled.coverage.render_text(notes_per_operation=limit) + _bundle_line(bundle),
    )


def _from_folder_of(target: Path, description: Path) -> Path:
    """The description's path as a policy in `target` has to write it."""
    if description.is_absolute() or target.parent == Path():
        return description
    try:
        return description.absolute().relative_to(target.parent.absolute())
    except ValueError:
        return description.absolute()


def _findings(place: Place) -> list[Finding]:
    file = place.policy_file
    mistakes = policies.problems(file) if file is not None else []
    if mistakes:
        return [policies.unusable(mistake) for mistake in mistakes]
    policy = read_policy(place)
    try:
        description = bundles.load_description(policy)
        found = policies.lint(policy, description)
    except InputError as error:
        return [policies.unusable(error)]
    return [*found, *_client_findings(policy, description)]


def _client_findings(policy: Policy, description: Description) -> list[Finding]:
    """On the clients, where there is a database of them; it is only read."""
    state = StateFolder(policy.state.absolute())
    url = database_url(policy, state)
    file = url.removeprefix("sqlite:///")
    if policy.identity.issuer != "embedded" or (file != url and not Path(file).exists()):
        return []
    try:
        with open_storage(url, as_it_is=True) as storage:
            clients = admin.list_clients(storage)
    except (StateError, StorageUnavailable) as error:
        output.say(f"the clients were not checked: {error}")
        return []
    return lint_clients(
        clients,
        (*scopes_of(description), *OPENID_SCOPES),
        profile=policy.identity.profile,
        token_binding=policy.identity.token_binding,
        location=policy.locate("identity"),
    )


def _plain(found: list[Finding], limit: int | None) -> str:
    """A line for each place, the severest check first, and what to do once for each check."""
    counts = ", ".join(output.count(sum(finding.level == level for finding in found), level) for level in LEVELS)
    order = {level: index for index, level in enumerate(LEVELS)}
    ordered = sorted(found, key=lambda finding: (order[finding.level], finding.check))
    groups = itertools.groupby(ordered, key=lambda finding: finding.check)
    return "\n".join([*(line for _, group in groups for line in _group(list(group), limit)), counts])


def _group(found: list[Finding], limit: int | None) -> Iterator[str]:
    hints = [finding.hint for finding in found]
    if len(set(hints)) > 1:
        limit = None
    for finding, next_hint in zip(found[:limit], [*hints[1:limit], None], strict=False):
        place = f"{finding.location}: " if finding.location else ""
        yield f"{place}{finding.level}: {finding.message} [{finding.check}]"
        if next_hint not in (None, finding.hint):
            yield f"    hint: {finding.hint}"
    if limit is not None and len(found) > limit:
        yield f"    and {len(found) - limit} more like this (all of them with --all)"
    yield f"    hint: {hints[-1]}"


def _bundle(compiled: Compiled, *, seconds: float) -> dict[str, Any]:
    return {
        "file": None,
        "serial": None,
        "sha256": compiler.payload_digest(compiled.payload),
        "bytes": len(compiled.payload),
        "seconds": round(seconds, 3),
    }


def _bundle_line(bundle: dict[str, Any]) -> str:
    where = f"wrote `{bundle['file']}`: serial {bundle['serial']}, " if bundle["file"] else ""
    return f"\n{where}sha256 {bundle['sha256'][:16]}…, {bundle['bytes']} bytes, compiled in {bundle['seconds']:.2f} s"
