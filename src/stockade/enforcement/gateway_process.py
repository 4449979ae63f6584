"""What the gateway's process runs: a few lines of Python, then Rust alone.

The supervisor passes listening sockets by the `LISTEN_FDS` convention (sd_listen_fds(3)): descriptors from 3 on, and
the process id they are meant for. Moving them there is all that Python does here.
"""

from __future__ import annotations

import os
import sys

from stockade.supervised import end_with_supervisor

FIRST_DESCRIPTOR = 3


def main(config_path: str, descriptors: list[int]) -> int:
    """Serve until drained; the gateway's exit status (docs/contracts.md §4)."""
    end_with_supervisor()
    if descriptors:
        _move_to_front(descriptors)
        os.environ["LISTEN_FDS"] = str(len(descriptors))
        os.environ["LISTEN_PID"] = str(os.getpid())
    from stockade._native import serve  # noqa: PLC0415  # only now: the descriptors are in place

    return serve(config_path)


def _move_to_front(descriptors: list[int]) -> None:
    # Up first, so that no target is a source that still has to move.
    parked = [os.dup2(fd, FIRST_DESCRIPTOR + 100 + index) for index, fd in enumerate(descriptors)]
    for fd in descriptors:
        os.close(fd)
    for index, fd in enumerate(parked):
        os.dup2(fd, FIRST_DESCRIPTOR + index, inheritable=True)
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [int(fd) for fd in sys.argv[2:]]))
