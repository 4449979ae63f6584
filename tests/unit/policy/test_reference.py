"""The generated page and the first policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stockade import policy
from stockade.policy import Policy

ROOT = Path(__file__).resolve().parents[3]


def test_the_configuration_page_is_current() -> None:
    """`make docs` writes it anew."""
    assert (ROOT / "docs/configuration.md").read_text().endswith(policy.render_reference())


def test_every_key_is_in_the_reference() -> None:
    text = policy.render_reference()

    def visit(model: type) -> None:
        for name, field in model.model_fields.items():
            assert f"| `{name}` |" in text
            assert field.description, f"{model.__name__}.{name} has no description"
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                visit(field.annotation)

    visit(Policy)


@pytest.mark.parametrize(
    ("description", "upstream"), [("openapi.yaml", "http://127.0.0.1:9000"), ('a "b": #c.yaml', "https://ä.example")]
)
def test_the_first_policy_is_the_default_one(tmp_path: Path, description: Any, upstream: Any) -> None:
    path = tmp_path / "stockade.yaml"
    path.write_text(policy.render_initial(description, upstream))
    loaded = policy.load(path)
    assert loaded.api.description == tmp_path / description
    expected = Policy.default(description=description, upstream=upstream)
    assert loaded.model_dump(exclude={"api", "state"}) == expected.model_dump(exclude={"api", "state"})


def test_what_is_commented_out_in_the_first_policy_is_valid(tmp_path: Path) -> None:
    """Somebody will take the `#` away."""
    lines = policy.render_initial("openapi.yaml", "http://127.0.0.1:9000").splitlines()
    shown = [line.removeprefix("# ").removeprefix("#") if line.startswith("#") else line for line in lines[2:]]
    path = tmp_path / "stockade.yaml"
    path.write_text("\n".join(shown))
    assert set(yaml.safe_load(path.read_text())) >= {"api", "listen", "limits", "layers", "cors"}
    policy.load(path)
