"""The benchmark is a folder of the repository, not of the package: make it importable wherever pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
