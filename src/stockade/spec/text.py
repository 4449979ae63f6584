"""Files in, text out: bounded reading and strict decoding."""

from __future__ import annotations

import codecs
import os
import stat
from typing import TYPE_CHECKING

from stockade.errors import DescriptionError, Location
from stockade.spec.limits import MAX_FILE_BYTES, LimitError

if TYPE_CHECKING:
    from pathlib import Path

_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_bytes(path: Path, file: str) -> bytes:
    """The content of a regular file of at most 64 MiB; `file` is the name for errors. Raises DescriptionError."""
    where = Location(file)
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DescriptionError("not a regular file", location=where, hint="name a file, not a folder or a pipe")
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a usable file name"
        raise DescriptionError(
            f"cannot be read: {reason}", location=where, hint="check the path and its permissions"
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise LimitError(f"larger than {MAX_FILE_BYTES} bytes", location=where, hint="split the description into files")
    return content


def decode(content: bytes, file: str) -> str:
    """Strict UTF-8 without a byte order mark and without NUL, which RFC 8259 §8.1 and YAML 1.2 §5.1 both take."""
    hint = "save the file as UTF-8 without a byte order mark"
    for mark, name in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise DescriptionError(f"encoded in {name}, not UTF-8", location=Location(file, 1, 1), hint=hint)
    if content.startswith(codecs.BOM_UTF8):
        raise DescriptionError("begins with a byte order mark", location=Location(file, 1, 1), hint=hint)
    nul = content.find(b"\0")
    if nul >= 0:
        raise DescriptionError("contains a NUL byte", location=_place(content, nul, file), hint=hint)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DescriptionError("not valid UTF-8", location=_place(content, error.start, file), hint=hint) from None


def place(text: str, offset: int, file: str, pointer: str | None = None) -> Location:
    """The line and column, both from 1, of an offset into the text."""
    line = text.count("\n", 0, offset) + 1
    return Location(file, line, offset - text.rfind("\n", 0, offset), pointer)


def _place(content: bytes, offset: int, file: str) -> Location:
    before = content[:offset].decode("utf-8", "replace")
    return place(before, len(before), file)
