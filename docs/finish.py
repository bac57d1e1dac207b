"""What happens to the site when Sphinx has built it: it gets the weights for the page in the browser and the slides of the
chapters, and loses what no page needs.

The theme brings its icons twice, as a font of 2,000 and as a script of 1.6 MB, and loads the search index on every page. It also logs
to the console.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lab
import slides
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

ICONS = re.compile(r"<script[^>]*scripts/fontawesome\.js[^>]*></script>\n?")
SEARCH = re.compile(r'<script[^>]*src="[^"]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>\n?')
PREFETCHED = re.compile(r'<link[^>]*href="[^"]*fontawesome\.js[^>]*>\n?')


def lighten(folder: Path) -> None:
    """Remove scripts that a page does not use: the icons' everywhere, the search's outside the search page; and messages to the console.

    Tables scroll on narrow screens, so they must take the focus of the keyboard. An entry of a list must have the role of one.
    """
    for page in folder.rglob("*.html"):
        text = PREFETCHED.sub("", ICONS.sub("", page.read_text(encoding="utf-8"))).replace('<table class="', '<table tabindex="0" class="')
        text = text.replace('role="doc-biblioentry"', 'role="listitem"')
        text = text.replace("console.log(", "void(") if page.name == "search.html" else SEARCH.sub("", text)
        page.write_text(text, encoding="utf-8")
    for script in (folder / "_static" / "scripts").glob("*.js"):
        if script.name.startswith("fontawesome"):
            script.unlink()
        elif "theme" in script.name:
            script.write_text(script.read_text(encoding="utf-8").replace("console.log(", "void("), encoding="utf-8")


def keep_used_icons(folder: Path) -> None:
    """Icon fonts with the icons alone that pages and styles name."""
    files = [file.read_text(encoding="utf-8") for kind in ("*.html", "*.js") for file in folder.rglob(kind) if file.parent.name != "lab"]
    named = {name for text in files for name in re.findall(r"\bfa-[\w-]+", text)}
    styles = (folder / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    icons = re.findall(r'([^{}]+)\{--fa:"\\(\w+)"\}', styles)
    codes = {code for names, code in icons if named & set(re.findall(r"fa-[\w-]+", names))}
    codes |= set(re.findall(r'(?:content|--pst-icon[\w-]*):"\\(f\w+)"', styles))
    for path in folder.rglob("fa-*.woff2"):
        font = TTFont(path)
        subsetter = Subsetter(Options(notdef_outline=True))
        subsetter.populate(unicodes=[int(code, 16) for code in codes])
        subsetter.subset(font)
        font.save(path)


def finish(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        folder = Path(app.outdir)
        lighten(folder)
        keep_used_icons(folder)
        lab.write(folder / "_static" / "lab")
        slides.write(folder / "_static" / "slides")
