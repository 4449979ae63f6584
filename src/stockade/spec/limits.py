"""How much a description may ask of us: every bound of this package, in one place.

The largest public description known (GitHub's) has 12.7 MB, 260,000 nodes and is 21 levels deep.
"""

from __future__ import annotations

from stockade.errors import DescriptionError

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_TOTAL_BYTES = 128 * 1024 * 1024
MAX_DOCUMENTS = 1_000
MAX_DEPTH = 200
MAX_NODES = 1_000_000
"""JSON values in one document, every YAML alias counted as often as it is used."""
TEXT_PER_NODE = 1_000
"""In YAML, characters of one scalar that count as one more value, so that aliases cannot multiply text."""
MAX_POINTER_CHARS = 8_192
"""Length of the longest JSON pointer into a document, estimated from the longest key of each level."""
MAX_REFERENCE_CHARS = 4_096
MAX_PATH_VARIABLES = 100
MAX_NUMBER_CHARS = 1_000
MAX_ANCHOR_CHARS = 200
MAX_REFERENCE_HOPS = 50
MAX_BASE_PATHS = 64
"""Base paths of one operation: servers times the values of their variables."""
MAX_PIECES = 300_000
"""Parameters, bodies, responses and paths over all operations, shared ones counted as often as they are used."""
OVERLAY_STEPS = 250_000
OVERLAY_STEPS_PER_NODE = 4
"""Nodes that the targets of all overlays visit, and members that their updates copy and merge. They grow with the
description, so that a target such as `$..description` fits any."""
MAX_TARGET_CHARS = 4_096
MAX_WARNINGS = 1_000


class LimitError(DescriptionError):
    """A bound was passed. Unlike other faults of a referenced file it ends the whole load."""
