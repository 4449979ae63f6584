"""`stockade`: the commands. Parsing and printing only; what they do lives in the packages below."""

from __future__ import annotations

import importlib
import os
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from stockade import __version__
from stockade.cli import output
from stockade.errors import StateError, StockadeError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUG_STATUS = 70
INTERRUPTED_STATUS = 130
TRACEBACK = "STOCKADE_TRACEBACK"

# In the order of a newcomer's day. A command's module is imported when it is asked for: the compiler and the
# database layer take longer to import than `stockade status` to run.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "stockade.cli.demo:demo",
        "init": "stockade.cli.check:init",
        "check": "stockade.cli.check:check",
        "compile": "stockade.cli.check:compile_command",
        "up": "stockade.cli.up:up",
        "status": "stockade.cli.up:status",
        "reload": "stockade.cli.up:reload",
        "client": "stockade.cli.initial_tokens:client",
        "user": "stockade.cli.users:user",
        "token": "stockade.cli.tokens:token",
        "keys": "stockade.cli.keys:keys",
        "audit": "stockade.cli.audit:audit",
        "events": "stockade.cli.events:events",
        "explain": "stockade.cli.events:explain",
    }
)

HELP = """Put one gate in front of an API: everything that passes has to prove itself.

\b
Start here:
  stockade demo                                          a weak sample API, attacked with and without the gate
  stockade up --description openapi.yaml --upstream URL  your own API
"""


class _Commands(click.Group):
    """The commands of COMMANDS, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (as above)
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


cli = click.version_option(__version__, prog_name="stockade")(
    _Commands(
        name="stockade",
        help=HELP,
        epilog="Each command has its own --help, with an example.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
)


def main() -> None:
    """Entry point: exit status 0, 2 for wrong input, 70 for a bug, 130 for Ctrl-C, or what the error says."""
    try:
        status = cli.main(prog_name="stockade", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED_STATUS)
    except click.ClickException as error:
        sys.exit(output.misuse(error))
    except StockadeError as error:
        sys.exit(output.fail(error))
    except BrokenPipeError:
        # The reader has seen enough (`stockade events | head`); what is still buffered must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(output.fail(_unusable(error)))
    except Exception as error:
        if TRACEBACK in os.environ:
            raise
        output.bug(error)
        sys.exit(BUG_STATUS)
    sys.exit(status if isinstance(status, int) else 0)


def _unusable(error: OSError) -> StateError:
    """A file or socket that nobody has a better word for."""
    what = f"`{error.filename}`" if error.filename else "a file or socket"
    reason = (error.strerror or type(error).__name__).lower()
    return StateError(f"{what} cannot be used: {reason}", hint="check the path, its permissions and the free space")
