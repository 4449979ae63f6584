"""What the operator writes (`stockade.yaml`, `x-stockade`): typed, with file, line and column on every error."""

from stockade.policy.lint import CHECKS, lint, unusable
from stockade.policy.load import build, load, problems
from stockade.policy.model import Policy
from stockade.policy.reference import render_initial, render_reference

__all__ = [
    "CHECKS",
    "Policy",
    "build",
    "lint",
    "load",
    "problems",
    "render_initial",
    "render_reference",
    "unusable",
]
