"""HTTP/2 as bytes: frames that no honest library would write."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Self

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = struct.pack(">I", 8)
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 §4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class RawH2:
    """One connection over TLS. Header blocks never touch the dynamic table, so each stands for itself."""

    port: int
    ca: str
    settings: bytes = b""
    timeout: float = 5.0
    buffer: bytes = b""
    host: str = field(init=False)
    socket: ssl.SSLSocket = field(init=False)

    def __post_init__(self) -> None:
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.host = f"localhost:{self.port}"
        assert self.socket.selected_alpn_protocol() == "h2"
        self.send(PREFACE + frame(SETTINGS, 0, 0, self.settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def sends(self, pieces: list[bytes]) -> bool:
        """Send one after the other; false as soon as the other side has had enough."""
        try:
            for piece in pieces:
                self.send(piece)
        except (OSError, ssl.SSLError):
            return False
        return True

    def block(self, path: str, *more: tuple[str, str], method: str = "GET") -> bytes:
        head = [(":method", method), (":scheme", "https"), (":authority", self.host), (":path", path), *more]
        fields = [hpack.NeverIndexedHeaderTuple(name, value) for name, value in head]
        return bytes(hpack.Encoder().encode(fields, huffman=False))

    def receive(self) -> Frame | None:
        """The next frame; None at the end of the connection, however it ends. Raises TimeoutError."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except (OSError, ssl.SSLError):
                return None
            if not data:
                return None
            self.buffer += data
        end = 9 + int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9:end], self.buffer[end:]
        return Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    def until_the_end(self) -> list[Frame]:
        """All frames up to the end of the connection. Raises TimeoutError when it does not end."""
        frames = []
        while (got := self.receive()) is not None:
            frames.append(got)
        return frames
