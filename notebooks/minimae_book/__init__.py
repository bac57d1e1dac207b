"""What the chapters in ``notebooks/`` use besides the package: guesses with reveals, and checks for the exercises.

A chapter builds everything else that it needs, or imports it from the package.
"""

from typing import TYPE_CHECKING

from minimae.lazy import submodules

from .checks import Checks
from .own import assembled, own_parts, use, whose
from .predictions import predict, reveal
from .reading import excerpt
from .sliders import slider
from .verdict import Verdict

check = Checks()

__all__ = ["Verdict", "assembled", "check", "excerpt", "own_parts", "predict", "reveal", "slider", "use", "whose"]

if not TYPE_CHECKING:  # minimae_book.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
