"""Where an installation is: `-c stockade.yaml`, or a description and an upstream on the command line."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stockade import policy as policies
from stockade.control.state import StateFolder, open_state
from stockade.errors import InputError
from stockade.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_FILE = Path("stockade.yaml")


@dataclass(frozen=True, slots=True)
class Place:
    """What the command line says of the installation; nothing is read yet."""

    file: Path | None
    description: Path | None
    upstream: str | None
    state: Path | None


def with_policy(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for commands that compile: a policy file, or a description and an upstream. Passes `place`."""
    command = click.option("--upstream", metavar="URL", help="Where the API runs, such as http://127.0.0.1:9000.")(
        command
    )
    command = click.option(
        "--description",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The OpenAPI file, without a stockade.yaml.",
    )(command)
    return with_installation(command)


def with_installation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for commands that look at an installation. Passes `place`."""

    @click.option(
        "-c",
        "--config",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The policy file [stockade.yaml].",
    )
    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="The state folder [.stockade].")
    @functools.wraps(command)
    def wrapped(*args: Any, file: Path | None, state: Path | None, **options: Any) -> Any:
        place = Place(file, options.pop("description", None), options.pop("upstream", None), state)
        return command(*args, place=place, **options)

    return wrapped


def read_policy(place: Place) -> Policy:
    """The policy of the file, or of the command line alone. Raises InputError."""
    if place.file is None and place.description is not None:
        if place.upstream is None:
            raise InputError("`--description` needs `--upstream`", hint="say where the API runs: --upstream URL")
        policy = Policy.default(description=place.description, upstream=place.upstream)
    else:
        policy = policies.load(_file(place))
    return policy.model_copy(update={"state": place.state}) if place.state else policy


def installation(place: Place) -> StateFolder:
    """The state folder, without needing a sound policy file where `--state` or the default says it."""
    if place.state is not None:
        return open_state(place.state)
    if place.file is not None or DEFAULT_FILE.exists():
        return open_state(read_policy(place).state)
    if Path(".stockade").is_dir():
        return open_state(Path(".stockade"))
    raise InputError(
        "there is no `stockade.yaml` and no `.stockade` folder here",
        hint="go to the folder of your installation, or name it: -c FILE or --state FOLDER",
    )


def _file(place: Place) -> Path:
    file = place.file or DEFAULT_FILE
    if place.file is None and not file.exists():
        raise InputError(
            "there is no `stockade.yaml` here",
            hint="write one with `stockade init`, or say --description openapi.yaml --upstream URL",
        )
    return file
