"""Where an installation is: `-c stockade.yaml`, or a description and an upstream on the command line."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stockade import policy as policies
from stockade.control.state import StateFolder, open_state
from stockade.errors import InputError, PolicyError, StateError
from stockade.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_FILE = Path("stockade.yaml")
DEFAULT_STATE = Path(".stockade")
# Where nothing is ever asked of the upstream: a bundle does not hold it.
UNASKED_UPSTREAM = "http://127.0.0.1:9000"


@dataclass(frozen=True, slots=True)
class Place:
    """What the command line says of the installation; nothing is read yet."""

    file: Path | None
    description: Path | None
    upstream: str | None
    state: Path | None

    @property
    def policy_file(self) -> Path | None:
        """The policy file: the one that was named, else the one that lies here, else None."""
        return self.file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def with_policy(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for commands that compile: a policy file, or a description and an upstream. Passes `place`."""
    command = click.option(
        "--upstream", metavar="URL", help="Where the API runs, such as http://127.0.0.1:9000; goes before the file's."
    )(command)
    command = click.option(
        "--description",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The OpenAPI file; goes before the one that stockade.yaml names.",
    )(command)
    return with_installation(command)


def with_installation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for commands that look at an installation. Passes `place`."""

    @click.option(
        "-c",
        "--config",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The policy file [stockade.yaml].",
    )
    @click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="The state folder [.stockade].",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, file: Path | None, state: Path | None, **options: Any) -> Any:
        place = Place(file, options.pop("description", None), options.pop("upstream", None), state)
        return command(*args, place=place, **options)

    return wrapped


def read_policy(place: Place) -> Policy:
    """The policy of the file, or of the command line alone; the command line goes first. Raises InputError."""
    if place.policy_file is None:
        policy = _without_file(place)
    else:
        policy = policies.load(place.policy_file)
        described = from_command_line(place.description or policy.api.description, place.upstream or UNASKED_UPSTREAM)
        if place.description is not None:
            policy = _with_api(policy, description=described.api.description)
        if place.upstream is not None:
            upstream = policy.api.upstream.model_copy(update={"endpoints": described.api.upstream.endpoints})
            policy = _with_api(policy, upstream=upstream)
    return policy.model_copy(update={"state": place.state}) if place.state else policy


def installation(place: Place) -> StateFolder:
    """The state folder of an installation that has run before. Raises InputError or StateError.

    No sound policy file is needed where `--state` or the default says it.
    """
    if place.state is not None:
        root = place.state
    elif place.policy_file is not None:
        root = read_policy(place).state
    elif DEFAULT_STATE.is_dir():
        root = DEFAULT_STATE
    else:
        raise InputError(
            "there is no `stockade.yaml` and no `.stockade` folder here",
            hint="go to the folder of your installation, or name it: -c FILE or --state FOLDER",
        )
    if not root.is_dir():
        raise StateError(
            f"there is no state folder `{root}`", hint="`stockade up` makes it; or name another: --state FOLDER"
        )
    return open_state(root)


def from_command_line(description: Path, upstream: str) -> Policy:
    """The default policy for these two. Raises InputError in the command line's terms."""
    try:
        return Policy.default(description=description, upstream=upstream)
    except PolicyError as error:
        reason = error.message.partition(": ")[2] or error.message
        raise InputError(f"--upstream: {reason}", hint=error.hint) from None


def nothing_runs(state: StateFolder) -> StateError:
    """The error of commands that speak with a running installation."""
    return StateError(f"nothing runs on `{state.root}`", hint="start it with `stockade up`")


def _without_file(place: Place) -> Policy:
    if place.description is None:
        raise InputError(
            "there is no `stockade.yaml` here",
            hint="write one with `stockade init`, or say --description openapi.yaml --upstream URL",
        )
    if place.upstream is None:
        raise InputError("`--description` needs `--upstream`", hint="say where the API runs: --upstream URL")
    return from_command_line(place.description, place.upstream)


def _with_api(policy: Policy, **changes: Any) -> Policy:
    return policy.model_copy(update={"api": policy.api.model_copy(update=changes)})
