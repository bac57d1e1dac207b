"""The paper's claims, tested at a scale that a reader can repeat: ``minimae reproduce``.

In reading order: ``evaluations`` (how an encoder is measured), ``jobs`` (work that is done once and shared), ``budgets`` (the scale of the
runs), ``claims`` and ``catalogue`` (what is compared; each module ``claim_NAME`` adds one), ``statistics`` and ``verdicts`` (how sure a
difference is, and the conclusion), ``results`` (files). ``recorded/`` holds the results.
"""

from typing import TYPE_CHECKING

from minimae.lazy import submodules

from .budgets import BUDGETS, Budget
from .catalogue import CLAIMS
from .command import picture
from .results import Outcome, recorded

__all__ = ["BUDGETS", "CLAIMS", "Budget", "Outcome", "picture", "recorded"]

if not TYPE_CHECKING:  # minimae_book.evidence.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
