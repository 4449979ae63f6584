"""From the operator's files to a signed bundle on disk: load, compile, check against the engine, sign, write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade import compiler, spec
from stockade.control import state as st
from stockade.enforcement import engine

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.compiler import Compiled
    from stockade.control.state import StateFolder
    from stockade.policy import Policy
    from stockade.spec.model import Description


@dataclass(frozen=True, slots=True)
class Built:
    """A bundle that the engine has accepted. `inputs` are the files it was made from; a change makes it stale."""

    description: Description
    compiled: Compiled
    serial: int
    signed: bytes
    seconds: float
    inputs: tuple[Path, ...]


def load_description(policy: Policy) -> Description:
    """Parse the description and its overlays. Raises DescriptionError with file, line and pointer."""
    return spec.load(
        policy.api.description,
        overlays=policy.api.overlay,
        allow_remote=policy.api.remote_references,
        allow_folders=policy.api.reference_folders,
    )


def compile_policy(policy: Policy, description: Description | None = None) -> tuple[Description, Compiled]:
    """Load and compile; nothing is signed or written. Raises InputError or BundleError.

    The engine loads the result here, in the control plane, so that a bundle it can't take never gets to a gateway.
    """
    description = description or load_description(policy)
    compiled = compiler.compile_bundle(description, policy, check_schemas=engine.check_schemas)
    engine.Engine.from_payload(compiled.payload)
    return description, compiled


def build(policy: Policy, state: StateFolder, description: Description | None = None) -> Built:
    """Compile and sign; nothing is written but the serial. Raises InputError or BundleError: then nothing changed."""
    started = time.perf_counter()
    description, compiled = compile_policy(policy, description)
    serial = st.next_serial(state, compiled.payload)
    signed = compiler.sign(compiled.payload, serial, st.signing_key(state))
    return Built(description, compiled, serial, signed, time.perf_counter() - started, description.inputs)


def publish(built: Built, state: StateFolder) -> None:
    """Put the bundle where gateways read it."""
    st.write_atomically(state.bundle, built.signed)
