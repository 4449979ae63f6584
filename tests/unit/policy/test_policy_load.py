"""`stockade.yaml`: what is read, and what each mistake is told."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade import policy
from stockade.errors import PolicyError
from stockade.policy import Policy
from stockade.policy.positions import read_tree
from stockade.policy.quantities import PERIODS, format_quota, parse_quota, parse_size

MINIMAL = "api:\n  description: openapi.yaml\n  upstream: http://127.0.0.1:9000\n"


def load(folder: Path, text: str) -> Policy:
    path = folder / "stockade.yaml"
    path.write_text(text)
    return policy.load(path)


def error(folder: Path, text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(folder, text)
    return caught.value


def test_everything_but_api_has_a_safe_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL)
    assert loaded.listen.address == "127.0.0.1:8443"
    assert loaded.listen.tls.mode == "auto"
    assert loaded.listen.trusted_proxies == ()
    assert loaded.validation.unknown_query == "deny"
    assert loaded.validation.unknown_properties.model_dump() == {"request": "deny", "response": "deny"}
    assert {name: mode for name, mode in loaded.layers if name != "detect"} == dict.fromkeys(
        ("authenticate", "authorize", "limits", "validate_request", "validate_response"), "enforce"
    )
    assert loaded.limits.per_address is not None
    assert loaded.limits.per_client is not None
    assert loaded.cors is None
    assert loaded.warnings == ()


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL + "  overlay: a/overlay.yaml\nstate: state\n")
    assert loaded.api.description == tmp_path / "openapi.yaml"
    assert loaded.api.overlays == (tmp_path / "a/overlay.yaml",)
    assert loaded.state == tmp_path / "state"
    assert load(tmp_path, MINIMAL).state == tmp_path / ".stockade"
    assert load(tmp_path, MINIMAL + "state: /var/lib/stockade\n").state == Path("/var/lib/stockade")


def test_the_default_policy_needs_no_file() -> None:
    default = Policy.default(description="a/openapi.yaml", upstream="http://127.0.0.1:9000")
    assert default.api.description == Path("a/openapi.yaml")
    assert default.file is None
    with pytest.raises(PolicyError, match="is not an upstream"):
        Policy.default(description="openapi.yaml", upstream="127.0.0.1:9000")


def test_off_is_a_mode_and_not_a_boolean(tmp_path: Path) -> None:
    """YAML 1.1 reads `off` as false; the core schema of YAML 1.2 does not."""
    loaded = load(tmp_path, MINIMAL + "layers: {limits: off}\nlisten: {tls: {mode: off}}\n")
    assert loaded.layers.limits == "off"
    assert loaded.listen.tls.mode == "off"
    assert loaded.audience == "http://localhost:8443"


def test_short_and_long_forms_say_the_same(tmp_path: Path) -> None:
    short = load(tmp_path, MINIMAL + "limits: {per_client: 100/minute}\nvalidation: {unknown_properties: allow}\n")
    long = load(
        tmp_path,
        "api:\n  description: openapi.yaml\n  upstream: {endpoints: ['http://127.0.0.1:9000']}\n"
        "limits: {per_client: {requests: 100, period_seconds: 60}}\n"
        "validation: {unknown_properties: {request: allow, response: allow}}\n",
    )
    assert short.model_dump() == long.model_dump()


def test_an_empty_section_means_its_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "listen:\n").listen == load(tmp_path, MINIMAL).listen


def test_null_switches_a_rate_limit_off(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "limits: {per_client: null}\n").limits.per_client is None


def test_issuer_and_audience_follow_the_addresses(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL + "listen: {address: '0.0.0.0:9443'}\nidentity: {listen: '127.0.0.1:9444'}\n")
    assert (loaded.issuer, loaded.audience) == ("https://localhost:9444", "https://localhost:9443")
    moved = loaded.with_addresses("127.0.0.1:1", "127.0.0.1:2")
    assert (moved.issuer, moved.audience) == ("https://localhost:2", "https://localhost:1")


def test_certificates_imply_their_mode(tmp_path: Path) -> None:
    tls = load(tmp_path, MINIMAL + "listen: {tls: {certificate: c.pem, key: k.pem, client_ca: ca.pem}}\n").listen.tls
    assert (tls.mode, tls.client_certificate) == ("files", "required")


def test_layers_to_come_are_accepted_with_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL + "layers:\n  detect: observe\nauthorize: ./policies/\n")
    (detect, place), (cedar, _) = loaded.warnings
    assert "no effect yet" in detect
    assert "no effect yet" in cedar
    assert place is not None
    assert (place.line, place.column) == (5, 3)


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("apy: {}\n", 1, 1, "unknown key `apy`", "did you mean `api`?"),
        (MINIMAL + "listen:\n  adress: x\n", 5, 3, "unknown key `adress`", "did you mean `address`?"),
        (MINIMAL + "layers:\n  limits: enforced\n", 5, 11, "must be `enforce`, `observe` or `off`", "`enforce`?"),
        (MINIMAL + "limits:\n  per_client: 100/fortnight\n", 5, 15, "unknown period `fortnight`", None),
        (MINIMAL + "limits:\n  per_client: lots\n", 5, 15, "is not a quota", None),
        (MINIMAL + "limits:\n  sizes: {max_body_bytes: 1 Mo}\n", 5, 27, "is not a size", None),
        (MINIMAL + "limits:\n  max_tracked_keys: '1'\n", 5, 21, "must be a whole number", None),
        (MINIMAL + "limits:\n  max_tracked_keys: 1\n", 5, 21, "must be at least 1000", None),
        (MINIMAL + "listen: {address: '8443'}\n", 4, 19, "is not an address", None),
        (MINIMAL + "listen: {proxy_protocol: yes}\n", 4, 26, "must be `true` or `false`", None),
        (MINIMAL + "listen: {proxy_protocol: true}\n", 4, 9, "needs `trusted_proxies`", None),
        (MINIMAL + "listen: {trusted_proxies: [10.0.0.0/40]}\n", 4, 28, "10.0.0.0/40", None),
        (MINIMAL + "identity: {issuer: 'http://idp.example.com'}\n", 4, 20, "must be an https URL", None),
        (MINIMAL + "identity: {external: {algorithms: [none]}}\n", 4, 36, "must be", None),
        (MINIMAL + "cors: {origins: '*', allow_credentials: true}\n", 4, 7, "would trust every web page", None),
        (MINIMAL + "listen: {tls: {mode: files}}\n", 4, 15, "needs `certificate` and `key`", None),
        (MINIMAL + "  base_path: v1\n", 4, 14, "is not a base path", None),
        (MINIMAL + "version: 2\n", 4, 10, "must be `1`", None),
        ("version: 1\n", 1, 1, "`api` is missing", None),
        ("api: {description: openapi.yaml}\n", 1, 1, "`upstream` is missing in `api`", None),
        ("- a\n", 1, 1, "a policy is a mapping", "version: 1"),
        (MINIMAL + "api: {}\n", 4, 1, "`api` is given twice", "keep one"),
        ("api: &a {}\nlisten: *a\n", 2, 9, "aliases are not supported", "write the value out"),
        ("api: !!python/object:os.system {}\n", 1, 6, "not supported", None),
        ("api: [\n", 2, 1, "not valid YAML", None),
        ("api: " + "[" * 40 + "]" * 40 + "\n", 1, 37, "nested deeper", None),
    ],
)  # fmt: skip
def test_every_mistake_names_its_place_and_what_to_do(
    tmp_path: Path, text: str, line: int, column: int, message: str, hint: Any
) -> None:
    found = error(tmp_path, text)
    assert found.location is not None
    assert (found.location.line, found.location.column) == (line, column), str(found)
    assert message in found.message
    assert hint is None or hint in (found.hint or "")
    assert str(found).startswith(f"{tmp_path / 'stockade.yaml'}:{line}:{column}: ")
    assert found.message[0] == "`" or found.message[0].islower()
    assert not found.message.endswith(".")


def test_all_problems_are_found_at_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "stockade.yaml"
    path.write_text(MINIMAL + "listen: {adress: x}\nlayers: {limits: on}\n")
    assert [problem.location.line for problem in policy.problems(path) if problem.location] == [4, 5]


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such file") as caught:
        policy.load(tmp_path / "stockade.yaml")
    assert "stockade init" in (caught.value.hint or "")


@given(st.binary(max_size=200))
def test_no_bytes_escape_as_another_error(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    with contextlib.suppress(PolicyError):
        read_tree(text, "stockade.yaml")


@given(st.text(alphabet="ap:{}[]-#'\"\n &*!|>%@,?", max_size=60))
def test_no_yaml_escapes_as_another_error(text: str) -> None:
    with contextlib.suppress(PolicyError):
        read_tree(text, "stockade.yaml")


@given(st.integers(1, 10**9 - 1), st.sampled_from(sorted(PERIODS.values())), st.integers(1, 10**9 - 1))
def test_quotas_round_trip(requests: Any, period: Any, burst: Any) -> None:
    assert parse_quota(format_quota(requests, period, burst)) == {
        "requests": requests, "period_seconds": period, "burst": burst,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"), [("1 MiB", 1 << 20), ("512KiB", 1 << 19), ("10 kB", 10_000), ("7", 7), (9, 9)]
)
def test_sizes_are_read(text: str, size: Any) -> None:
    assert parse_size(text) == size


def test_a_policy_cannot_be_changed() -> None:
    default = Policy.default(description="openapi.yaml", upstream="http://127.0.0.1:9000")
    with pytest.raises(ValueError, match="frozen"):
        default.version = 1


def test_a_database_url_does_not_show_in_the_repr(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL + "identity: {database_url: 'postgresql://u:hunter2@db/x'}\n")
    assert "hunter2" not in repr(loaded)
