"""Reading authorization requests: whatever comes, it is parameters or a declared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.config import Config
from stockade.identity.endpoints.authorization_request import (
    Asked,
    Parameters,
    ReturnAddress,
    parse_parameters,
    read_request,
)
from stockade.identity.errors import OAuthError
from stockade.identity.interactions import AuthorizationRequest
from stockade.identity.storage.clients import AuthMethod, ClientRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.identity.services import Services

ADDRESS = ReturnAddress("https://app.example/cb", None, "query")
CLIENT = ClientRecord(
    "c_1",
    "one",
    AuthMethod.NONE,
    None,
    ("openid", "orders:read"),
    0,
    0,
    None,
    metadata=ClientMetadata(grant_types=("authorization_code",), redirect_uris=("https://app.example/cb",)),
)
GOOD = {"response_type": "code", "code_challenge": "x" * 43, "code_challenge_method": "S256"}
NAMES = (*GOOD, "scope", "resource", "prompt", "max_age", "acr_values", "claims", "dpop_jkt", "ui_locales", "nonce")


class _Services:
    """The configuration alone: nothing else is needed without an `id_token_hint`."""

    config = Config.model_validate(
        {
            "database_url": "sqlite:///x",
            "issuer": "https://issuer.example",
            "audiences": ["https://api.example"],
            "internal_audience": "http://upstream",
            "scopes": ["orders:read"],
            "public": {"certificate": "x", "key": "x"},
            "internal": {"certificate": "x", "key": "x", "ca": "x"},
            "key_encryption_key": {"environment": "X"},
        }
    )


def read(values: dict[str, str]) -> object:
    return read_request(cast("Services", _Services()), Asked(CLIENT, ADDRESS, Parameters(values)))


def outcome(work: Callable[[], object]) -> object:
    """What comes of it, a declared error too."""
    try:
        return work()
    except OAuthError as error:
        return error


@given(st.text(max_size=400))
def test_any_query_is_parameters_or_an_error(text: str) -> None:
    parameters = outcome(lambda: parse_parameters(text))
    if isinstance(parameters, OAuthError):
        assert parameters.error == "invalid_request"
        return
    assert isinstance(parameters, Parameters)
    assert all(parameters.values.values())
    assert not parameters.repeated & parameters.values.keys()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.text(max_size=5)), max_size=6))
def test_a_parameter_counts_only_where_it_came_once(pairs: list[tuple[str, str]]) -> None:
    pairs = [(name, value.replace("\x00", "").encode(errors="replace").decode()) for name, value in pairs]
    parameters = parse_parameters(urlencode(pairs))
    for name in "abc":
        values = [value for key, value in pairs if key == name]
        assert parameters.optional(name) == (values[0] or None if len(values) == 1 else None)
        assert (name in parameters.repeated) == (len(values) > 1)


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=60), max_size=6))
def test_any_parameters_are_a_request_or_an_error(values: dict[str, str]) -> None:
    asked = outcome(lambda: read({**GOOD, **{name: value for name, value in values.items() if value}}))
    assert isinstance(asked, AuthorizationRequest) or (isinstance(asked, OAuthError) and asked.status == 400)
