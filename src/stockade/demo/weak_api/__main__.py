"""``python -m stockade.demo.weak_api --port N``: serve the shop on loopback until interrupted."""

from __future__ import annotations

import argparse

import uvicorn

from stockade.demo.weak_api.app import build_app
from stockade.demo.weak_api.wire import InsecureHttpProtocol
from stockade.supervised import end_with_supervisor


def main() -> None:
    """Parse the port and serve. Only 127.0.0.1, on purpose: this API must never be reachable from a network."""
    end_with_supervisor()
    parser = argparse.ArgumentParser(prog="python -m stockade.demo.weak_api", description="a deliberately weak API")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args().port
    uvicorn.run(build_app(), host="127.0.0.1", port=port, http=InsecureHttpProtocol, log_level="critical")


if __name__ == "__main__":
    main()
