"""`python -m stockade.enforcement.child MODULE ARGUMENTS…`: run a part that ends when its supervisor does.

Without it, a supervisor that is killed leaves parts behind that hold its ports and know nothing of its successor.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Ask the kernel for SIGTERM at the supervisor's death, then become the module."""
    supervisor = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:  # it died before the kernel was asked
        sys.exit(1)
    module = sys.argv[1]
    del sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
