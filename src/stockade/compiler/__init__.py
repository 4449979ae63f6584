"""Description and policy in, bundle out. No I/O."""

from stockade.compiler.bundle import CheckSchemas, Compiled, CompileWarning, SchemaProblem, compile_bundle
from stockade.compiler.coverage import Coverage, Note, OperationCoverage
from stockade.compiler.envelope import Envelope, payload_digest, read_envelope, sign

__all__ = [
    "CheckSchemas",
    "CompileWarning",
    "Compiled",
    "Coverage",
    "Envelope",
    "Note",
    "OperationCoverage",
    "SchemaProblem",
    "compile_bundle",
    "payload_digest",
    "read_envelope",
    "sign",
]
