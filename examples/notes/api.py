# ruff: noqa: INP001 - a script, not part of a package

"""The smallest API worth protecting: notes in memory, standard library only. ``python examples/notes/api.py``.

It knows nothing of authentication; the gate in front does.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9000
NOTES: list[dict[str, object]] = []


class Notes(BaseHTTPRequestHandler):
    """GET /notes, POST /notes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the notes."""
        self.answer(200, NOTES)

    def do_POST(self) -> None:
        """Keep a note."""
        note = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        NOTES.append({"id": len(NOTES) + 1, **note})
        self.answer(201, NOTES[-1])

    def answer(self, status: int, document: object) -> None:
        """Send JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Notes).serve_forever()
