"""`stockade`: the commands. Parsing and printing only; what they do lives in the packages below."""

from __future__ import annotations

import sys

import click

from stockade import __version__
from stockade.cli import output
from stockade.cli.check import check, compile_command, init
from stockade.cli.clients import client
from stockade.cli.demo import demo
from stockade.cli.events import events, explain
from stockade.cli.tokens import token
from stockade.cli.up import reload, status, up
from stockade.errors import StockadeError

INTERNAL_ERROR_STATUS = 70
INTERRUPTED_STATUS = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stockade")
def cli() -> None:
    r"""Put one gate in front of an API: everything that passes has to prove itself.

    \b
    Start here:
      stockade demo                                          a weak sample API, attacked with and without the gate
      stockade up --description openapi.yaml --upstream URL   your own API
    """


for command in (up, demo, init, check, compile_command, client, token, events, explain, status, reload):
    cli.add_command(command)


def main() -> None:
    """Entry point: exit status 0, 2 for wrong input, or what the error says."""
    try:
        status_code = cli.main(prog_name="stockade", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED_STATUS)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except StockadeError as error:
        sys.exit(output.fail(error))
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(status_code if isinstance(status_code, int) else 0)
