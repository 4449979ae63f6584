"""The description, the overlay and the policy of the demo agree with each other and with the code."""

from __future__ import annotations

from typing import Any

import yaml

from stockade.demo.attacks import ATTACKS, LEGITIMATE
from stockade.demo.weak_api import DESCRIPTION, FOLDER, OVERLAY, POLICY
from stockade.demo.weak_api.app import build_app

METHODS = ("get", "put", "post", "patch", "delete")


def load(path: Any) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = load(DESCRIPTION)["paths"]
    return [(path, method, item[method]) for path, item in paths.items() for method in METHODS if method in item]


def test_only_the_search_is_public() -> None:
    assert [operation["operationId"] for _, _, operation in operations() if operation["security"] == []] == [
        "searchProducts"
    ]


def test_every_scope_asked_for_is_declared() -> None:
    flow = load(DESCRIPTION)["components"]["securitySchemes"]["oauth"]["flows"]["clientCredentials"]
    asked = {
        scope for _, _, op in operations() for requirement in op["security"] for scope in requirement.get("oauth", [])
    }
    assert asked == set(flow["scopes"])


def test_every_declared_operation_is_served() -> None:
    served = {
        (route.path.replace("{id}", "{}"), method.lower()) for route in build_app().routes for method in route.methods
    }
    for path, method, _ in operations():
        plain = path.replace("{productId}", "{}").replace("{orderId}", "{}").replace("{userId}", "{}")
        assert (plain, method) in served


def test_undeclared_operations_are_served_as_well() -> None:
    declared = load(DESCRIPTION)["paths"]
    assert not {"/internal/debug", "/admin/users"} & set(declared)


def test_policy_and_overlay_name_files_and_operations_that_exist() -> None:
    api = load(POLICY)["api"]
    assert (FOLDER / api["description"]).samefile(DESCRIPTION)
    assert (FOLDER / api["overlay"]).samefile(OVERLAY)
    assert load(OVERLAY)["actions"][0]["target"] == "$.paths['/login'].post"
    assert "post" in load(DESCRIPTION)["paths"]["/login"]


def test_the_usual_client_stays_below_the_limit_that_the_flood_meets() -> None:
    per_client = int(load(POLICY)["limits"]["per_client"].partition("/")[0])
    assert len(ATTACKS) + len(LEGITIMATE) < per_client / 2
    assert per_client < 260
