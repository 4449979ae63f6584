"""The parts of the pages that need no server: forgery protection, names, static files, templates."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from jinja2 import UndefinedError
from starlette.datastructures import Headers

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.interactions import AuthorizationRequest
from stockade.identity.keys.derive import DerivedKeys
from stockade.identity.pages import assets, rendering
from stockade.identity.pages.account_sessions import browser_name
from stockade.identity.pages.csrf import comes_from_here, csrf_token, same_token
from stockade.identity.pages.languages import locales
from stockade.identity.pages.naming import client_name, destination, printable, scope_texts, unverified
from stockade.identity.pages.rendering import environment
from stockade.identity.pages.routes import PAGES
from stockade.identity.storage.clients import AuthMethod, ClientRecord

if TYPE_CHECKING:
    from stockade.identity.services import Services

ENGLISH = locales()["en"]
ISSUER = "https://id.example"


def client(name: str = "shop", method: AuthMethod = AuthMethod.CLIENT_SECRET_BASIC, **metadata: Any) -> ClientRecord:
    return ClientRecord("c_1", name, method, None, (), 0, 0, None, metadata=ClientMetadata(**metadata))


def test_a_token_is_of_one_browser_one_session_and_one_server() -> None:
    keys = DerivedKeys(b"1" * 32)
    token = csrf_token(keys, "browser", "session")
    assert same_token(csrf_token(keys, "browser", "session"), token)
    others = (
        csrf_token(keys, "browser", ""),
        csrf_token(keys, "", "session"),
        csrf_token(keys, "browser2", "session"),
        csrf_token(DerivedKeys(b"2" * 32), "browser", "session"),
    )
    assert not any(same_token(other, token) for other in (*others, "", "é", token + "="))


@pytest.mark.parametrize(
    ("headers", "here"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": ISSUER}, True),
        ({"Origin": ISSUER}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://id.example.evil"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": ISSUER}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "SAME-ORIGIN"}, False),
        ({"Origin": "http://id.example"}, False),
        ({"Origin": ""}, False),
    ],
)
def test_a_request_is_ours_unless_something_says_otherwise(headers: dict[str, str], here: bool) -> None:
    assert comes_from_here(Headers(headers), ISSUER) is here


def test_a_client_is_called_what_it_calls_itself_or_what_the_operator_does() -> None:
    assert client_name(client(client_name="Larder")) == "Larder"
    assert client_name(client()) == "shop"
    assert client_name(client(client_name="\u202e \u200b")) == "shop"
    assert printable("a\u202eb\x00c\nd\u2066e") == "abcde"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://larder.example:8443/cb?x=1", "larder.example:8443"),
        ("https://xn--e1awd7f.example/cb", "xn--e1awd7f.example"),
        ("http://127.0.0.1:9/cb", "an app on this device (127.0.0.1:9)"),
        ("com.example.app:/cb", "an app on this device (com.example.app)"),
    ],
)
def test_the_place_that_the_answer_goes_to_is_named(uri: str, shown: str) -> None:
    assert destination(AuthorizationRequest("c_1", uri, (), "a", "c"), ENGLISH) == shown


def test_who_is_not_vouched_for_is_flagged() -> None:
    assert unverified(client()) == ""
    assert unverified(client(registered_by="dynamic")) == "dynamic"
    assert unverified(client(method=AuthMethod.NONE, application_type="native")) == "native"
    assert unverified(client(application_type="native")) == ""


def test_scopes_are_said_in_words_and_new_ones_are_marked() -> None:
    described = SimpleNamespace(people=SimpleNamespace(scopes={"orders:read": "See your orders"}))
    services = cast("Services", SimpleNamespace(config=described))
    texts = scope_texts(services, ENGLISH, ("openid", "orders:read", "x"), ("openid",))
    assert [one.text for one in texts] == ["Know who you are: an identifier", "See your orders", "Use “x”"]
    assert [one.fresh for one in texts] == [False, True, True]
    # Where nothing was allowed before, nothing is new.
    assert not any(one.fresh for one in scope_texts(services, ENGLISH, ("openid", "x"), ()))


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on iOS"),
        ("curl/8.0", "curl/8.0"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_called_what_its_owner_would(agent: str, name: str) -> None:
    assert browser_name(agent, ENGLISH) == name


def test_static_files_are_kept_for_ever_under_names_that_change() -> None:
    for name in ("style.css", "passkeys.js", "icon.svg"):
        path = assets.asset_path(name)
        answer = assets.asset(path)
        assert answer is not None
        assert answer.body == (assets.FOLDER / name).read_bytes()
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert re.search(r"\.[A-Za-z0-9_-]{12}\.", path)
    assert assets.asset("/static/style.css") is None
    assert assets.asset("/static/../__init__.py") is None


def test_static_files_are_small() -> None:
    assert sum(path.stat().st_size for path in assets.FOLDER.iterdir()) < 20_000


@pytest.mark.parametrize("path", sorted(rendering.FOLDER.glob("*.html")), ids=lambda path: path.stem)
def test_templates_are_well_formed_and_hold_nothing_inline(path: Path) -> None:
    environment().get_template(path.name)
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "style=" not in text
    assert not re.search(r"\son[a-z]+=", text)
    assert "| safe" not in text
    assert "autoescape" not in text
    assert len(re.findall("<form ", text)) == len(re.findall(r'<form method="post"', text))
    if "<form " in text and path.name != "parts.html":
        assert text.count("<form ") == text.count("{{ hidden() }}")


def test_a_name_that_a_template_does_not_get_is_a_defect() -> None:
    with pytest.raises(UndefinedError):
        rendering.page("message.html", {})


def test_values_are_escaped_wherever_they_stand() -> None:
    template = environment().from_string('<p title="{{ x }}">{{ x }}</p>')
    assert template.render(x="\"'<&>") == '<p title="&#34;&#39;&lt;&amp;&gt;">&#34;&#39;&lt;&amp;&gt;</p>'


def test_every_address_in_a_template_is_a_page() -> None:
    known = {page.path for page in PAGES}
    found = set()
    for path in rendering.FOLDER.glob("*.html"):
        text = path.read_text()
        found |= set(re.findall(r'url\("(/[^"]*)"', text))
        found |= {part for call in re.findall(r"(?:action|passkey_form)\(([^)]*)\)", text) for part in _paths(call)}
    assert "/account/passkeys/options" in found
    assert found <= known


def _paths(call: str) -> list[str]:
    return re.findall(r'"(/[^"]*)"', call)


def test_every_form_of_the_table_stands_in_a_template() -> None:
    text = "".join(path.read_text() for path in rendering.FOLDER.glob("*.html"))
    for page in PAGES:
        assert page.method == "GET" or f'"{page.path}"' in text, page.path
