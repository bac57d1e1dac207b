"""What the site's search ranks first: the chapter that defines a term, by the links of the glossary. ``conf.py`` writes the scorer."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCORER = """// Written by docs/search.py: terms of the glossary → the pages that define them.
const DEFINES = %s
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    const words = (new URLSearchParams(location.search).get('q') || '').toLowerCase().trim()
    if (DEFINES[words] === page) return score + 100
    if (page === 'glossary' && DEFINES[words]) return score + 50
    return score + (page.startsWith('notebooks/') ? 5 : page.startsWith('api/') ? -5 : 0)
  },
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
}
"""


def defined() -> dict[str, str]:
    """Each term of the glossary → the chapter that its text links to first."""
    words = re.search(r"```\{glossary\}.*?```", (HERE / "glossary.md").read_text(encoding="utf-8"), re.DOTALL)
    assert words is not None
    found = {}
    for heads, text in re.findall(r"^((?:\S[^\n]*\n)+)((?:  [^\n]*\n|\n)+)", words.group(), re.MULTILINE):
        if link := re.search(r"\]\((notebooks/\w+)\.ipynb\)", text):
            found |= {head.strip().lower(): link[1] for head in heads.splitlines() if not head.startswith((":", "`"))}
    return found


def write(path: Path) -> None:
    """Write the scorer that Sphinx's search uses."""
    path.write_text(SCORER % json.dumps(defined(), indent=1), encoding="utf-8")
