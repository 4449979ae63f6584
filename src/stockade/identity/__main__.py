"""`python -m stockade.identity CONFIG.json`: the authorization server as a process.

Writes `ready` to standard output when both listeners serve; SIGTERM drains; SIGHUP reads the configuration and
certificates again. Exit status: 0 drained, 2 configuration refused, 4 state missing or broken, 1 anything else; the
reason stands in the last lines on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stockade.errors import StockadeError
from stockade.supervised import end_with_supervisor


def main(arguments: list[str]) -> int:
    """Run the server. Returns the exit status."""
    import uvloop  # noqa: PLC0415 - a usage error needs none of this

    from stockade.identity.config import read_config  # noqa: PLC0415
    from stockade.identity.observability import log, start_logging  # noqa: PLC0415
    from stockade.identity.server import serve  # noqa: PLC0415

    if len(arguments) != 1:
        print("usage: python -m stockade.identity CONFIG.json", file=sys.stderr)  # noqa: T201
        return 2
    end_with_supervisor()
    start_logging("info")
    path = Path(arguments[0])
    try:
        config = read_config(path)
        start_logging(config.log.level)
        uvloop.run(serve(path, config))
    except StockadeError as error:
        log("error", "cannot_start", reason=str(error), hint=error.hint)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
