"""Speed compared with other libraries: the same model here, built from timm's blocks, and in transformers, side by side in one run.

``ceilings`` the machine's peak rates · ``rivals`` the two others · ``cases`` one step of each · ``timing`` interleaved rounds and
memory · ``results`` ratios, table, file · ``command`` what ``minimae bench`` does.
"""

from typing import TYPE_CHECKING

from minimae.lazy import submodules

if not TYPE_CHECKING:  # minimae_book.bench.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
