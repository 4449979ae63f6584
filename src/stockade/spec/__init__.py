"""API descriptions in: read once, checked, and handed on as typed values.

Data flow: `text` → `json_reader` or `yaml_reader` → `library` (with `survey`) → `overlay` → `operations` (with
`servers`, `security`, `parameters`, `bodies`, `template`) → `model.Description`.
"""

from stockade.spec.loader import load
from stockade.spec.model import Description, Node, Operation, Parameter, Unsupported

__all__ = ["Description", "Node", "Operation", "Parameter", "Unsupported", "load"]
