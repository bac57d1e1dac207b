"""Print the release notes of a version from CHANGELOG.md: ``python docs/notes.py [VERSION]``, by default of the newest."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


def notes(version: str | None = None) -> str:
    """The section of a version, without its heading. Raises ValueError for a version that the change log does not have."""
    sections = re.findall(r"^## (\d+\.\d+\.\d+)[^\n]*\n(.*?)(?=^## |\Z)", LOG.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    known = dict(sections)
    if (version := version or sections[0][0]) not in known:
        raise ValueError(f"CHANGELOG.md has no version {version}; it has {', '.join(known)}")
    return known[version].strip()


if __name__ == "__main__":
    try:
        print(notes(*sys.argv[1:2]))
    except ValueError as error:
        sys.exit(str(error))
