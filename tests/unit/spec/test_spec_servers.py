"""`servers` to base paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from spec_support import HEAD, constructs

if TYPE_CHECKING:
    from spec_support import Describe, One

PATHS = "paths:\n  /a:\n    get: {responses: {'200': {description: ok}}}\n"


def base_paths(one: One, servers: str) -> tuple[str, ...]:
    operation = one(f"servers: {servers}\n" + PATHS)
    assert operation.unsupported == ()
    return operation.base_paths


@pytest.mark.parametrize(
    ("servers", "paths"),
    [
        ("[]", ("",)),
        ("[{url: /}]", ("",)),
        ("[{url: /v1/}]", ("/v1",)),
        ("[{url: 'https://api.example.com'}]", ("",)),
        ("[{url: 'https://api.example.com/'}]", ("",)),
        ("[{url: 'https://api.example.com:8443/v1/x'}]", ("/v1/x",)),
        ("[{url: '//api.example.com/v1'}]", ("/v1",)),
        ("[{url: './v1'}]", ("/v1",)),
        ("[{url: v1}]", ("/v1",)),
        ("[{url: /a}, {url: 'https://x/b'}, {url: 'https://y/a'}]", ("/a", "/b")),
        (
            "[{url: 'https://{h}.x:{p}/v1', variables: {h: {default: a}, p: {enum: ['1', '2'], default: '1'}}}]",
            ("/v1",),
        ),
        ("[{url: 'https://{undefined}/v1'}]", ("/v1",)),
        (
            "[{url: '/{a}/{b}', variables: {a: {enum: [x, y], default: x}, b: {enum: [z, w], default: z}}}]",
            ("/x/z", "/x/w", "/y/z", "/y/w"),
        ),
        ("[{url: '/{a}', variables: {a: {default: v9}}}]", ("/v9",)),
        ("[{url: '/{a}', variables: {a: {default: ''}}}]", ("",)),
        (
            "[{url: '{s}/v1', variables: {s: {enum: ['https://x/y', 'http://z'], default: 'http://z'}}}]",
            ("/y/v1", "/v1"),
        ),
    ],
)
def test_base_paths_of_servers(one: One, servers: str, paths: tuple[str, ...]) -> None:
    assert base_paths(one, servers) == paths


def test_innermost_servers_hold(describe: Describe) -> None:
    text = HEAD + (
        "servers: [{url: /root}]\n"
        "paths:\n"
        "  /a:\n    servers: [{url: /path}]\n"
        "    get: {servers: [{url: /own}], responses: {'200': {description: x}}}\n"
        "    put: {responses: {'200': {description: x}}}\n"
        "  /b:\n    get: {responses: {'200': {description: x}}}\n"
    )
    assert [o.base_paths for o in describe(text).operations] == [("/own",), ("/path",), ("/root",)]


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ("[{}]", "without `url`"),
        ("[{url: 1}]", "`url` must be a string"),
        ("[x]", "must be an object"),
        ("x", "`servers` must be a list"),
        ("[{url: '/{a}'}]", "the server variable `a` without a definition"),
        ("[{url: '/{a}', variables: {a: {}}}]", "without `default`"),
        ("[{url: '/{a}', variables: {a: {enum: [1], default: x}}}]", "list of strings"),
        ("[{url: '/{a}', variables: {a: {enum: [], default: x}}}]", "list of strings"),
        ("[{url: '/a?b=c'}]", "the server path"),
        ("[{url: '/a{'}]", "the server path"),
        ("[{url: '/a/../b'}]", "dot segment"),
        ("[{url: 'mailto:x'}]", "the server URL"),
    ],
)
def test_wrong_servers_deny_the_operations_that_use_them(describe: Describe, servers: str, words: str) -> None:
    own = "  /b:\n    servers: [{url: /ok}]\n    get: {responses: {'200': {description: x}}}\n"
    first, second = describe(HEAD + f"servers: {servers}\n" + PATHS + own).operations
    assert words in constructs(first)[0]
    assert second.unsupported == ()


def test_wrong_server_beside_a_good_one_is_left_out_with_a_warning(describe: Describe) -> None:
    description = describe(HEAD + "servers: [{url: '/{a}'}, {url: /ok}]\n" + PATHS)
    assert description.operations[0].base_paths == ("/ok",)
    assert description.operations[0].unsupported == ()
    assert "left out" in description.warnings[0][0]


def test_combinations_of_variables_are_bounded(one: One) -> None:
    values = "{enum: [" + ", ".join(f"v{i}" for i in range(50)) + "], default: v0}"
    names = [f"n{i}" for i in range(12)]
    url = "/" + "/".join(f"{{{n}}}" for n in names)
    variables = ", ".join(f"{n}: {values}" for n in names)
    operation = one(f"servers: [{{url: '{url}', variables: {{{variables}}}}}]\n" + PATHS)
    assert "more than 64" in constructs(operation)[0]
