"""`stockade client initial-access-token`: who may register clients by themselves (RFC 7591)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.client_options import GRANTS, SHORT_GRANTS
from stockade.cli.clients import KEEP, as_json_option, client, identity_storage, lines, split_scopes
from stockade.cli.inputs import with_installation
from stockade.identity import admin_registration as registration

if TYPE_CHECKING:
    from stockade.cli.inputs import Place
    from stockade.identity.storage.initial_tokens import InitialAccessToken

DAY_SECONDS = 86_400


@client.group(
    "initial-access-token", epilog="Example: stockade client initial-access-token create partner --scope openid"
)
def initial_access_token() -> None:
    """Let others register clients: `identity.registration`."""


@initial_access_token.command(
    epilog="Example: stockade client initial-access-token create partner --scope openid --uses 5 --json"
)
@with_installation
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What its clients may ask for; repeatable.")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    type=click.Choice([*GRANTS, *SHORT_GRANTS.values()]),
    metavar="GRANT",
    default=("authorization_code", "refresh_token"),
    help="Grants that its clients may have; repeatable. [default: authorization_code, refresh_token]",
)
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="How many clients.")
@click.option(
    "--expires-in", type=click.IntRange(1), default=DAY_SECONDS, show_default=True, metavar="SECONDS", help="Its life."
)
@as_json_option
def create(
    place: Place,
    name: str,
    scopes: tuple[str, ...],
    grants: tuple[str, ...],
    uses: int,
    expires_in: int,
    as_json: bool,
) -> None:
    """Make one, shown once. Each client registered with it costs a use."""
    wanted = [SHORT_GRANTS.get(grant, grant) for grant in grants]
    with identity_storage(place, make=True) as storage:
        made = registration.create_initial_access_token(
            storage, name, split_scopes(scopes), wanted, uses=uses, expires_in_seconds=expires_in
        )
    shown = _shown(made.token) | {"initial_access_token": made.initial_access_token}
    output.emit(shown, as_json=as_json, text=lines)
    if not as_json:
        output.say(KEEP)


@initial_access_token.command("list", epilog="Example: stockade client initial-access-token list")
@with_installation
@as_json_option
def list_tokens(place: Place, as_json: bool) -> None:
    """List them, with the uses that are left."""
    with identity_storage(place) as storage:
        tokens = registration.list_initial_access_tokens(storage)
    found = [_shown(token) for token in sorted(tokens, key=lambda token: (-token.created_at, token.name))]
    output.emit(found, as_json=as_json, text=lambda shown: "\n\n".join(lines(one) for one in shown))


@initial_access_token.command(epilog="Example: stockade client initial-access-token revoke i_0123456789abcdef0123")
@with_installation
@click.argument("token_id")
def revoke(place: Place, token_id: str) -> int:
    """End one; clients that were registered with it stay."""
    with identity_storage(place) as storage:
        ended = registration.revoke_initial_access_token(storage, token_id)
    output.say(f"`{token_id}` is revoked" if ended else f"there is no initial access token `{token_id}`")
    return 0 if ended else 1


def _shown(token: InitialAccessToken) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "name": token.name,
        "scopes": list(token.scopes),
        "grant_types": list(token.grant_types),
        "uses_left": token.uses_left,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
