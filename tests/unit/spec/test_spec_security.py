"""Security schemes and requirements at both levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from spec_support import HEAD, constructs

from stockade.spec.model import Requirement

if TYPE_CHECKING:
    from spec_support import Describe

SCHEMES = (
    "components:\n  securitySchemes:\n"
    "    key: {type: apiKey, in: cookie, name: sid}\n"
    "    basic: {type: http, scheme: Basic}\n"
    "    oauth:\n      type: oauth2\n      flows:\n"
    "        clientCredentials: {tokenUrl: /t, scopes: {a: A, b: B}}\n"
    "        authorizationCode: {authorizationUrl: /x, tokenUrl: /t, scopes: {c: C}}\n"
    "    oidc: {type: openIdConnect, openIdConnectUrl: /o}\n"
    "    tls: {type: mutualTLS}\n"
)


def operation(security: str) -> str:
    return f"paths:\n  /a:\n    get: {{{security}responses: {{'200': {{description: ok}}}}}}\n"


def test_schemes_are_typed(describe: Describe) -> None:
    schemes = describe(HEAD + SCHEMES).security_schemes
    assert (schemes["key"].kind, schemes["key"].place, schemes["key"].parameter_name) == ("apiKey", "cookie", "sid")
    assert schemes["basic"].http_scheme == "basic"
    assert schemes["oauth"].scopes == {"a": "A", "b": "B", "c": "C"}
    assert [schemes[n].kind for n in ("oidc", "tls")] == ["openIdConnect", "mutualTLS"]


@pytest.mark.parametrize(
    ("root", "own", "wanted"),
    [
        ("", "", None),
        ("security: []\n", "", ()),
        ("security: [{key: []}]\n", "", ((Requirement("key", ()),),)),
        ("security: [{key: []}]\n", "security: [], ", ()),
        ("security: [{key: []}]\n", "security: [{}], ", ((),)),
        ("", "security: [{oauth: [a], key: []}, {}], ", ((Requirement("oauth", ("a",)), Requirement("key", ())), ())),
    ],
)
def test_security_of_the_operation_replaces_that_of_the_description(
    describe: Describe, root: str, own: str, wanted: object
) -> None:
    (found,) = describe(HEAD + root + SCHEMES + operation(own)).operations
    assert found.security == wanted
    assert found.unsupported == ()


@pytest.mark.parametrize(
    ("security", "words"),
    [
        ("[{nobody: []}]", "the unknown security scheme `nobody`"),
        ("[{key: x}]", "must be a list of strings"),
        ("[{key: [1]}]", "must be a list of strings"),
        ("[key]", "must be an object"),
        ("{key: []}", "`security` must be a list"),
        ("null", "`security` must be a list"),
    ],
)
def test_requirement_that_cannot_be_read_denies(describe: Describe, security: str, words: str) -> None:
    (own,) = describe(HEAD + SCHEMES + operation(f"security: {security}, ")).operations
    (inherited,) = describe(HEAD + f"security: {security}\n" + SCHEMES + operation("")).operations
    for found in (own, inherited):
        assert words in constructs(found)[0]
    (overridden,) = describe(
        HEAD + f"security: {security}\n" + SCHEMES + operation("security: [{key: []}], ")
    ).operations
    assert overridden.unsupported == ()


@pytest.mark.parametrize(
    "scheme",
    [
        "{}",
        "{type: apikey, in: header, name: x}",
        "{type: apiKey, in: body, name: x}",
        "{type: apiKey, in: header}",
        "{type: http}",
        "{type: oauth2}",
        "{type: openIdConnect}",
        "{$ref: '#/nowhere'}",
        "[]",
    ],
)
def test_wrong_scheme_denies_only_the_operations_that_need_it(describe: Describe, scheme: str) -> None:
    text = HEAD + f"components: {{securitySchemes: {{bad: {scheme}, good: {{type: http, scheme: bearer}}}}}}\n"
    text += (
        operation("security: [{good: []}, {bad: []}], ")
        + "    put: {security: [{good: []}], responses: {'200': {description: x}}}\n"
    )
    description = describe(text)
    first, second = description.operations
    assert "the security scheme `bad`" in constructs(first)[0]
    assert second.unsupported == ()
    assert set(description.security_schemes) == {"good"}


def test_scope_that_the_scheme_does_not_declare_is_a_warning(describe: Describe) -> None:
    description = describe(HEAD + SCHEMES + operation("security: [{oauth: [z]}], "))
    assert description.operations[0].unsupported == ()
    assert "the scope `z`" in description.warnings[0][0]
