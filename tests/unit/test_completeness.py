"""Nothing is half there: what one part can say, the others can explain, document and test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from stockade.cli.check import ALL_CHECKS
from stockade.cli.main import COMMANDS, cli
from stockade.observe.explain import LAYERS, REASONS
from stockade.policy import Policy
from stockade.policy.extensions import OperationExtension, SchemaExtension
from stockade.policy.load import model_in

ROOT = Path(__file__).resolve().parents[2]
DECISION = (ROOT / "crates/engine/src/decision.rs").read_text()
CONTRACTS = (ROOT / "docs/contracts.md").read_text()


def reasons() -> dict[str, str]:
    """Wire name → Rust variant, from the one list that the engine's macro expands."""
    block = DECISION.split("\nreasons! {", 1)[1].split("\n}", 1)[0]
    return {name: variant for variant, name in re.findall(r'(\w+) "(\w+)" \d{3}', block)}


def layers() -> dict[str, str]:
    return {name: variant for variant, name in re.findall(r'Layer::(\w+) => "(\w+)"', DECISION)}


def slugs() -> set[str]:
    """The problem types of docs/contracts.md §7."""
    section = CONTRACTS.split("## 7. ", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"`([a-z-]+)`", section.split("slugs:", 1)[1].split(".", 1)[0]))


def headings(page: str, level: str) -> list[str]:
    return re.findall(rf"^{level} ([a-z-]+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)


@cache
def sources(*patterns: str) -> str:
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(ROOT.glob(pattern)))


def rust() -> str:
    return sources("crates/*/src/**/*.rs").replace(DECISION, "")


def test_code_files_are_found() -> None:
    """Guards the guards: a pattern that matches nothing would let every test below pass."""
    assert len(reasons()) >= 50
    assert len(layers()) == 9
    assert len(slugs()) == 16
    assert len(COMMANDS) > 10


# Reasons and layers


def test_every_reason_can_be_explained_and_no_other() -> None:
    assert set(REASONS) == set(reasons())
    for name, (happened, helps) in REASONS.items():
        assert happened, name
        assert helps, name


def test_every_layer_has_a_plain_name_and_no_other() -> None:
    assert set(LAYERS) == set(layers())


def test_the_contract_lists_every_reason_and_layer() -> None:
    section = CONTRACTS.split("## 2. ", 1)[1].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    assert list(rows) == list(layers())
    listed = {name for row in rows.values() for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(reasons())


def test_the_contract_gives_every_reason_its_status() -> None:
    statuses = dict(re.findall(r'"(\w+)" (\d{3})', DECISION))
    listed = dict(re.findall(r"`(\w+)` (\d{3})", CONTRACTS.split("## 2. ", 1)[1].split("\n## ", 1)[0]))
    # In the response layer all share the last status of their row.
    shared = {name for name in listed if name in REASONS and statuses[name] != listed[name]}
    assert shared == {"content_encoding_unsupported"}


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_every_reason_is_provoked_by_a_vector_or_a_test(reason: str) -> None:
    variant = rf"Reason::{reasons()[reason]}\b"
    tests = sources(
        "crates/*/tests/**/*.rs",
        "crates/engine/src/validate/tests/*.rs",
        "crates/engine/src/dpop/tests.rs",
        "tests/integration/**/*.py",
    )
    assert f'"{reason}"' in sources("vectors/*.json") + tests or re.search(variant, tests)


@pytest.mark.parametrize("layer", sorted(layers()))
def test_every_layer_is_provoked_by_a_vector_or_a_test(layer: str) -> None:
    tests = sources("crates/*/tests/**/*.rs", "tests/integration/**/*.py")
    assert f'"{layer}"' in sources("vectors/*.json") + tests


def test_every_reason_that_is_not_reserved_is_said_somewhere() -> None:
    said = {name for name, variant in reasons().items() if re.search(rf"Reason::{variant}\b", rust())}
    assert said == set(reasons())


# Problems


def test_every_problem_has_its_section_and_its_text() -> None:
    assert sorted(headings("problems.md", "##")) == sorted(slugs())
    problem = (ROOT / "crates/gateway/src/problem.rs").read_text()
    assert set(re.findall(r'text\(\s*"([a-z-]+)"', problem)) == slugs()


def test_the_problem_page_names_no_rule() -> None:
    """It is public: no layer, no reason, no limit's value and no header of ours beyond the standards' own."""
    page = (ROOT / "docs/problems.md").read_text()
    assert not [name for name in {**REASONS, **LAYERS} if "_" in name and name in page]


# Checks


def test_every_check_has_its_section() -> None:
    assert headings("checks.md", "###") == [check.id for check in ALL_CHECKS]


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.id)
def test_every_check_says_its_level_on_the_page(check: object) -> None:
    level = {"high": "Error", "medium": "Warning", "low": "Note", "info": "Note"}[check.severity]  # type: ignore[attr-defined]
    page = (ROOT / "docs/checks.md").read_text()
    assert f"### {check.id}\n\n{level}. " in page  # type: ignore[attr-defined]


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.id)
def test_every_check_is_tested_by_name(check: object) -> None:
    assert f'"{check.id}"' in sources("tests/unit/policy/*.py", "tests/unit/identity/test_identity_client_lint.py")  # type: ignore[attr-defined]


# Commands


def commands(command: click.Command = cli, path: str = "stockade") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_every_command_has_help_and_an_example_that_parses(path: str, command: click.Command) -> None:
    assert command.help
    if path == "stockade":
        return
    assert command.epilog
    assert command.epilog.startswith("Example: ")
    words = command.epilog.removeprefix("Example: ").split("| ")[-1].split(" > ")[0].split()
    assert " ".join(words).startswith(path)
    if not isinstance(command, click.Group):
        # With the settings it inherits in life: click remembers its help option from the first context.
        command.make_context(path, words[len(path.split()) :], **cli.context_settings)


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_every_option_has_help(path: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"
            assert parameter.help.endswith((".", "]", "].")), f"{path} {parameter.opts}: a sentence"


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_short_help_fits_a_line(path: str, command: click.Command) -> None:
    assert path == "stockade" or not command.get_short_help_str(68).endswith("..."), path


def test_the_readme_names_every_command() -> None:
    table = (ROOT / "README.md").read_text().split("## Commands", 1)[1].split("\n## ", 1)[0]
    assert {name for name in COMMANDS if not re.search(rf"\b{name}\b", table)} == set()


# The policy


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        inner = model_in(field.annotation)
        if inner is not None:
            yield from models(inner)


@pytest.mark.parametrize("model", {*models(Policy), OperationExtension, SchemaExtension}, ids=lambda m: m.__name__)
def test_every_field_of_the_policy_is_described(model: type[BaseModel]) -> None:
    assert not [name for name, field in model.model_fields.items() if not field.description]


# Vectors and pages


def test_every_vector_file_has_cases() -> None:
    for path in sorted((ROOT / "vectors").glob("*.json")):
        assert json.loads(path.read_text())["cases"], path.name


def test_every_link_of_a_page_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert links
    assert not [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
