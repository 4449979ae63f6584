"""Stockade under measurement: the one place where the benchmark knows how Stockade is started.

`run.py` calls `available`, then `start` and `stop` as often as it likes, the rest once. Whatever cannot be measured yet
raises `NotMeasuredError` with the reason; the column is then left out, never guessed.
"""

# ruff: noqa: ARG002 - the arguments are the interface; what is not there yet ignores them

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers import Endpoint


class NotMeasuredError(Exception):
    """A number cannot be had on this machine or at this stage; the message says why."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a started Stockade offers.

    `endpoints` are named `stockade` (clear), `stockade_tls` (HTTPS, HTTP/1.1) and `stockade_h2` (HTTPS, HTTP/2), each
    with the token of a client that holds the scope `orders`; the limits are on, and high enough never to refuse.
    `gateway` and `authorization_server` are process numbers; `ready_seconds` counts from the start of the command to
    "ready", self-check included.
    """

    endpoints: tuple[Endpoint, ...]
    gateway: tuple[int, ...]
    authorization_server: tuple[int, ...]
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class Compiled:
    """Wall time and peak resident memory of compiling one description in a process of its own."""

    seconds: float
    peak_mb: float


class Stockade:
    """Stockade with all layers on: cached token, limits, both directions validated, events and metrics, two threads."""

    def available(self) -> str | None:
        """Return None where Stockade can be started, else why not."""
        return "the command line is not there yet"

    def start(self, work: Path, description: Path, upstream_port: int, certificate: Path, key: Path) -> Started:
        """Start it in front of the upstream with this description and this TLS certificate; return when it is ready.

        Connections from 127.0.0.2 and up come 900 an address, 5,000 in all, and stay idle for some seconds.
        """
        raise NotMeasuredError(self.available())

    def stop(self) -> None:
        """Stop everything that the last `start` began."""

    def compile(self, description: Path, work: Path) -> Compiled:
        """Compile a description into a bundle in `work`."""
        raise NotMeasuredError(self.available())

    def engine_us(self, description: Path, work: Path) -> float:
        """Return µs of CPU that the engine alone takes for the benchmark's POST and its answer."""
        raise NotMeasuredError(self.available())

    def version(self) -> str:
        """Return the version."""
        raise NotMeasuredError(self.available())
