"""The judges share the helpers of other tests."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("conformance", "integration", "unit/enforcement"):
    sys.path.insert(0, str(TESTS / folder))
