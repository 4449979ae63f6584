"""`/metrics` over HTTP for Prometheus: the gateway's numbers, and those of the supervisor."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from stockade.control.sockets import split
from stockade.errors import StockadeError, SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.enforcement.admin import GatewayAdmin
    from stockade.enforcement.supervision import Part

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = "# EOF\n"


class MetricsServer:
    """Serves until `stop`. A gateway that does not answer gives `stockade_gateway_up 0`, not an error."""

    def __init__(self, address: str, admin: GatewayAdmin, parts: Callable[[], tuple[Part, ...]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/metrics":
                    self.send_error(404)
                    return
                body = render(admin, parts()).encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                """Nothing: scrapes are not worth a line."""

        try:
            self._server = ThreadingHTTPServer(split(address), Handler)
        except OSError as error:
            raise SupervisionError(
                f"cannot serve metrics on `{address}`: {(error.strerror or 'unknown').lower()}",
                hint="set `metrics.address` to a free one",
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Close the listener."""
        self._server.shutdown()
        self._server.server_close()


def render(admin: GatewayAdmin, parts: tuple[Part, ...]) -> str:
    """OpenMetrics text of all there is."""
    try:
        gateway, up = admin.metrics().removesuffix(END), 1
    except StockadeError:
        gateway, up = "", 0
    lines = ["# TYPE stockade_gateway_up gauge", f"stockade_gateway_up {up}", "# TYPE stockade_part_restarts counter"]
    lines += [f'stockade_part_restarts_total{{part="{part.spec.name}"}} {part.restarts}' for part in parts]
    return gateway + "\n".join(lines) + "\n" + END
