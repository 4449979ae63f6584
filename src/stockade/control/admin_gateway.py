"""The gate in front of the administration API: a second gateway, compiled from that API's own description.

It is a gateway like the first, on an address of its own, with a bundle, events and a socket of its own below `admin/`
in the state folder. Both ask the same authorization server; tokens for one are no good at the other, since each has an
audience of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.control import bundles
from stockade.control import state as st
from stockade.control.state import StateFolder
from stockade.enforcement.admin import GatewayAdmin
from stockade.errors import StateError
from stockade.policy import Policy

if TYPE_CHECKING:
    from stockade.control.bundles import Built

FOLDERS = ("bundle", "run", "events")


@dataclass(frozen=True, slots=True)
class AdminGate:
    """Its policy and its places. `policy` is the installation's in all that concerns TLS, issuer and connections."""

    policy: Policy
    state: StateFolder

    @property
    def control(self) -> GatewayAdmin:
        """Its socket."""
        return GatewayAdmin(self.state.run / "gateway.sock")

    def build(self) -> Built:
        """Compile and sign its bundle. Raises InputError or BundleError."""
        return bundles.build(self.policy, self.state)


def admin_audience(port: int) -> str:
    """What `aud` of a token for the administration API must contain (RFC 8707)."""
    return f"https://localhost:{port}"


def admin_gate(policy: Policy, state: StateFolder, address: str, upstream_port: int) -> AdminGate:
    """The gate on `address`, before the API on a loopback port. Raises StateError."""
    root = state.root / "admin"
    try:
        for folder in (root, *(root / name for name in FOLDERS)):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder `{root}`: {(error.strerror or 'unknown').lower()}") from error
    description = Path(str(files("stockade.identity").joinpath("admin_openapi.yaml")))
    plain = Policy.default(description=description, upstream=f"http://127.0.0.1:{upstream_port}")
    audience = admin_audience(int(address.rpartition(":")[2]))
    identity = policy.identity.model_copy(
        update={"issuer_url": policy.issuer, "audience": audience, "security_schemes": {}}
    )
    own = plain.model_copy(
        update={
            "listen": policy.listen.model_copy(update={"address": address, "threads": 1}),
            "identity": identity,
            "state": root,
        }
    )
    return AdminGate(own, StateFolder(root))


async def publish(gate: AdminGate, before: Built | None) -> Built:
    """Compile, and put the bundle in force where another one is. Raises StockadeError: then nothing changed."""
    built = await asyncio.to_thread(gate.build)
    if before is not None and built.serial != before.serial:
        candidate = gate.state.bundle.with_name("candidate.stkb")
        st.write_atomically(candidate, built.signed)
        await asyncio.to_thread(gate.control.swap_bundle, candidate)
    bundles.publish(built, gate.state)
    return built
