"""`stockade demo`: the weak API, a whole installation in front of it, every attack at both, and then it stays up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockade import policy as policies
from stockade.control.bundles import load_description
from stockade.control.identity_config import database_url, scopes_of
from stockade.control.sockets import free_port, listen
from stockade.control.state import open_state
from stockade.control.up import Installation
from stockade.demo.credentials import DemoCredentials
from stockade.demo.run import DemoResult, run_demo
from stockade.errors import StockadeError, SupervisionError
from stockade.identity.storage import open_storage
from stockade.observe import events as log
from stockade.supervised import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from stockade.control.up import Ready
    from stockade.policy import Policy

WEAK_API = Path(__file__).parent / "weak_api"
START_SECONDS = 15.0
PREFERRED = ("127.0.0.1:8443", "127.0.0.1:8444")
ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Shown:
    """The table's rows, and what the curl commands need."""

    result: DemoResult
    ready: Ready
    direct_url: str
    client_id: str
    client_secret: str


async def demo(
    *, once: bool, out: TextIO | None, say: Callable[[str], None], on_shown: Callable[[Shown], None]
) -> bool | None:
    """Run the demo; with `once` it ends after the table.

    Returns whether all went as it has to, or None when a signal ended it before the table was there.
    """
    folder = Path(tempfile.mkdtemp(prefix="stockade-demo-"))
    port = free_port(ANY_PORT)
    try:
        weak_api = await _start_weak_api(port)
        try:
            return await _run(folder, port, once=once, out=out, say=say, on_shown=on_shown)
        finally:
            with contextlib.suppress(ProcessLookupError):
                weak_api.terminate()
            await weak_api.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path,
    port: int,
    *,
    once: bool,
    out: TextIO | None,
    say: Callable[[str], None],
    on_shown: Callable[[Shown], None],
) -> bool | None:
    policy = _policy(folder, port)
    state = open_state(policy.state)
    running = Installation(lambda: policy, state, say)
    announced: asyncio.Queue[Ready] = asyncio.Queue()
    serving = asyncio.create_task(running.run(announced.put_nowait))
    getting = asyncio.create_task(announced.get())
    await asyncio.wait({serving, getting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        getting.cancel()
        await serving
        return None
    try:
        direct_url = f"http://127.0.0.1:{port}"
        attacking = asyncio.create_task(asyncio.to_thread(_attack, policy, await getting, direct_url, out))
        await asyncio.wait({serving, attacking}, return_when=asyncio.FIRST_COMPLETED)
        if not attacking.done():
            attacking.add_done_callback(_forget)
            await serving
            return None
        shown = await attacking
        on_shown(shown)
        if not once:
            await serving
        return shown.result.succeeded
    finally:
        running.stop()
        await asyncio.gather(serving, return_exceptions=True)


def _forget(attacking: asyncio.Task[Shown]) -> None:
    # What it found while the gate was going down is of no interest, an error least of all.
    if not attacking.cancelled():
        attacking.exception()


def _attack(policy: Policy, ready: Ready, direct_url: str, out: TextIO | None) -> Shown:
    state = open_state(policy.state)
    assert ready.ca_file is not None  # noqa: S101  # the demo's policy uses `tls: auto`
    with open_storage(database_url(policy, state)) as storage:
        credentials = DemoCredentials(
            storage, ready.token_endpoint, ready.ca_file, scopes_of(load_description(policy)), ready.api_url
        )
        try:
            result = run_demo(
                direct_url,
                ready.api_url,
                str(ready.ca_file),
                credentials=credentials,
                explain=lambda event_id: log.find(state.events, event_id),
                out=out,
            )
            pasted = credentials.client("curl")
        finally:
            credentials.close()
    return Shown(result, ready, direct_url, pasted.client_id, pasted.client_secret or "")


def _policy(folder: Path, port: int) -> Policy:
    policy = policies.load(WEAK_API / "stockade.yaml")
    upstream = policy.api.upstream.model_copy(update={"endpoints": (f"http://127.0.0.1:{port}",)})
    moved = policy.model_copy(
        update={"api": policy.api.model_copy(update={"upstream": upstream}), "state": folder / "state"}
    )
    gate, issuer = (address if _is_free(address) else ANY_PORT for address in PREFERRED)
    return moved.with_addresses(gate, issuer)


def _is_free(address: str) -> bool:
    try:
        for one in listen(address, 1):
            one.close()
    except StockadeError:
        return False
    return True


async def _start_weak_api(port: int) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "stockade.demo.weak_api", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, SUPERVISOR: str(os.getpid())},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await _accepts(process, port)
    except BaseException:  # a Ctrl-C as well: the API must not outlive the demo
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return process


async def _accepts(process: asyncio.subprocess.Process, port: int) -> None:
    for _ in range(int(START_SECONDS / 0.05)):
        if process.returncode is not None:
            break
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise SupervisionError(
        "the sample API did not start", hint="run `python -m stockade.demo.weak_api --port 9000` to see why"
    )
