"""What the operator writes (`stockade.yaml`, `x-stockade`): typed, with file, line and column on every error."""

from stockade.policy.load import build, load, problems
from stockade.policy.model import Policy

__all__ = ["Policy", "build", "load", "problems"]
