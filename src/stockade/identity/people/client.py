"""Where a request comes from, in the form that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

_MAX_AGENT_CHARS = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The other end of the connection. Headers that a proxy would set are not believed: ours is the first hop."""

    address: str
    user_agent: str

    @property
    def network(self) -> str:
        """What is counted together: one IPv6 subscriber has a /64, so that is one address."""
        try:
            parsed = ip_address(self.address)
        except ValueError:
            return self.address
        if not isinstance(parsed, IPv6Address):
            return self.address
        return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.exploded[:19]


def origin_of(request: HTTPConnection) -> Origin:
    """Read it from the connection."""
    agent = "".join(char for char in request.headers.get("user-agent", "") if char.isprintable())
    return Origin(request.client.host if request.client else "", agent[:_MAX_AGENT_CHARS])
