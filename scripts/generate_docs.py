"""Makes the generated pages anew, or (`--check`) fails when one of them is not what the code says."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from collect_standards import standards_page

from stockade import policy
from stockade.cli.main import cli

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEADER = "<!-- Made by `make docs`. Edit the code, not this page. -->\n\n"


def commands_page() -> str:
    """Every command with its own help text."""
    parts = ["# Commands\n"]

    def visit(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(command, parent, name, terminal_width=100, **cli.context_settings)
        parts.append(f"## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                visit(command.get_command(context, child) or command, child, context)

    visit(cli, "stockade", None)
    return HEADER + "\n".join(parts)


PAGES = {
    "configuration.md": lambda: HEADER + policy.render_reference(),
    "commands.md": commands_page,
    "standards.md": lambda: HEADER + standards_page(),
}


def main(*, check: bool) -> int:
    """Write the pages; with `check` only compare. Returns the exit status."""
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, "utf-8")
    if check and stale:
        print(f"docs: error: not current: {', '.join(stale)}\ndocs: hint: run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
