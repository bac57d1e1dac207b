"""Copy the cells of changed scripts into their notebooks and keep the outputs: for changes that cannot alter what a cell prints.

``python notebooks/sync.py 03 07``. Whoever changes results runs ``build.py`` instead, which runs the cells.
"""

from __future__ import annotations

import sys

import nbformat
from build import chapters, notebook_of


def sync(*numbers: str) -> None:
    """For each chapter whose script has as many cells as its notebook."""
    for script in chapters(*numbers):
        target = script.with_suffix(".ipynb")
        new, old = notebook_of(script), nbformat.read(target, as_version=4)
        if len(new.cells) != len(old.cells):
            raise SystemExit(f"{script.stem}: cells were added or removed; run build.py")
        for a, b in zip(new.cells, old.cells, strict=True):
            b.source, b.metadata = a.source, {**b.metadata, **a.metadata}
        nbformat.write(old, target)


if __name__ == "__main__":
    sync(*sys.argv[1:])
