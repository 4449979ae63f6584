"""The Corner Shop: a small, realistic API that is wrong in the ways real ones are.

Every weakness is real and works over loopback; `stockade.demo.attacks` uses each one. It listens on loopback only,
reaches out to loopback only, and all its data is made up. Run it as ``python -m stockade.demo.weak_api --port N``.

`openapi.yaml` says how the shop should behave, `stockade.yaml` and `stockade.overlay.yaml` are the gate's policy.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DESCRIPTION = FOLDER / "openapi.yaml"
OVERLAY = FOLDER / "stockade.overlay.yaml"
POLICY = FOLDER / "stockade.yaml"
