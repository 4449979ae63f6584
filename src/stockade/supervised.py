"""A part's tie to its supervisor: when that is killed, the part drains instead of serving on with nobody to watch it.

A supervisor that ends in order drains its parts itself. One that is killed cannot; its parts would go on holding the
ports, with no restart after a crash and no change of the policy coming into force.
"""

from __future__ import annotations

import os
import signal
import sys

SUPERVISOR = "STOCKADE_SUPERVISOR"
_PR_SET_PDEATHSIG = 1


def end_with_supervisor() -> None:
    """Ask Linux for SIGTERM when the supervisor ends, however it does. Nothing where a part runs by itself."""
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    import ctypes  # noqa: PLC0415  # only parts under a supervisor need it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != supervisor:
        # It ended before it could be told of.
        os.kill(os.getpid(), signal.SIGTERM)
