"""The site: the chapters as they are committed (nothing is executed), the pages beside them, and the package from its docstrings.

``make docs`` builds it into docs/_build/html. It needs no network, neither to build nor to read.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks"), str(HERE)]

import finish  # noqa: E402
import reference  # noqa: E402
import search  # noqa: E402
from PIL import Image  # noqa: E402

import minimae  # noqa: E402
from notebooks.build import REPOSITORY, chapters  # noqa: E402

# Sphinx reads one folder: the chapters are copied into docs/notebooks (not committed), links out of it turned to the code host.
BLOB = f"https://github.com/{REPOSITORY}/blob/main"


def outward(text: str) -> str:
    """Links of a page in notebooks/ or of the root: pages of docs/ stay on the site, all other files are shown by the code host."""
    text = re.sub(r"\]\(\.\./docs/(\w+\.md)", r"](../\1", text)
    text = text.replace("](minimae_book/", f"]({BLOB}/notebooks/minimae_book/")
    return re.sub(r"\]\(\.\./(?!(?:\w+\.md)\b)", rf"]({BLOB}/", text)


# Figures that move, below their static twins: chapter → (code of the cell that draws the twin, name in _static/figures.js, pictures).
MOVING = {
    "00_a_picture_mostly_missing": ("plots.picture_table(cells, columns=titles", "growing", "growing.js"),
    "01_patches": ("plots.moving_grid(pieces.numpy(), (3, 4))", "grid", "pictures.js"),
    "02_masking_by_shuffling": ("plots.crossing_lines(noise.numpy(), 2)", "shuffle", ""),
}


def with_moving_figure(chapter: str, text: str) -> str:
    """The notebook with a place for the moving figure, after the caption of its twin."""
    if chapter not in MOVING:
        return text
    code, figure, pictures = MOVING[chapter]
    book = json.loads(text)
    drawn = [i for i, cell in enumerate(book["cells"]) if cell["cell_type"] == "code" and code in "".join(cell["source"])]
    if not drawn:
        raise ValueError(f"chapter {chapter} has no cell with {code}, below which the moving figure belongs: see MOVING in docs/conf.py")
    caption = book["cells"][drawn[0] + 1]
    first, _, rest = "".join(caption["source"]).partition("\n\n")
    place = f'<div data-figure="{figure}"' + (f' data-pictures="../_static/lab/{pictures}"' if pictures else "") + "></div>"
    scripts = '<link rel="stylesheet" href="../_static/figures.css"><script src="../_static/figures.js" defer></script>'
    caption["source"] = "\n\n".join([first, place + scripts, rest]).splitlines(keepends=True)
    return json.dumps(book)


def with_slides(chapter: str, text: str) -> str:
    """The notebook with a link to its slides at the end of its first cell."""
    book = json.loads(text)
    book["cells"][0]["source"] += ["\n", "\n", f'<a href="../_static/slides/{chapter}.html">Slides of this chapter</a>']
    return json.dumps(book)


copy = HERE / "notebooks"
shutil.rmtree(copy, ignore_errors=True)
shutil.copytree(ROOT / "notebooks" / "images", copy / "images")
for script in chapters():
    text = with_moving_figure(script.stem, script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    (copy / f"{script.stem}.ipynb").write_text(outward(with_slides(script.stem, text)), encoding="utf-8")
(copy / "paper-map.md").write_text(outward((ROOT / "notebooks" / "paper-map.md").read_text(encoding="utf-8")), encoding="utf-8")
shutil.rmtree(HERE / "api", ignore_errors=True)
reference.write(HERE / "api")
search.write(HERE / "api" / "scorer.js")
with Image.open(HERE / "images" / "photographs.png") as picture:
    picture.convert("RGB").save(HERE / "images" / "photographs.webp", quality=65)  # for the start page
(HERE / "changelog.md").write_text((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), encoding="utf-8")

project, author, copyright = "minimae", "The minimae authors", "The minimae authors, MIT licence"
version = release = minimae.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_url_schemes = ("https", "mailto")
bibtex_bibfiles = ["references.bib"]
suppress_warnings = ["mystnb.unknown_mime_type"]

viewcode_follow_imported_members = False  # the way back from a source leads to the module that it belongs to
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "minimae: masked autoencoders, built from the first patch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "_static/logo.svg"
html_search_scorer = str(HERE / "api" / "scorer.js")  # Sphinx looks from where it is started
html_theme_options = {
    "home_page_in_toc": True,
    "logo": {"text": "minimae", "alt_text": "minimae"},
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "navbar_start": [],
    "navbar_end": [],
    "navbar_persistent": [],  # the sidebar has the search field
}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is, until the reader says otherwise
html_copy_source = False


def setup(app: Any) -> None:
    app.connect("build-finished", finish.finish)
