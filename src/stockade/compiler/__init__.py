"""Description and policy in, bundle out. No I/O."""

from stockade.compiler.bundle import CheckSchemas, Compiled, SchemaProblem, CompileWarning, compile_bundle
from stockade.compiler.coverage import Coverage, Note, OperationCoverage, render_text
from stockade.compiler.envelope import Envelope, read_envelope, sign

__all__ = [
    "CheckSchemas",
    "Compiled",
    "Coverage",
    "Envelope",
    "Note",
    "OperationCoverage",
    "SchemaProblem",
    "CompileWarning",
    "compile_bundle",
    "read_envelope",
    "render_text",
    "sign",
]
