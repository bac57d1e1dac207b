"""Weights in and out: by name, from runs, and in the layouts of other libraries.

``registry`` has :func:`load` and :func:`save` · ``native`` reads and writes our own files · ``official``, ``huggingface`` and ``timm`` know
what each library calls the parameters and states about them · ``convert`` turns their tensors into models and back · ``files`` opens
files without running code.
"""

from typing import TYPE_CHECKING

from ..lazy import submodules
from .classified import Classified
from .native import OWN_DATA
from .registry import LAYOUTS, load, load_pretrained, save

__all__ = ["LAYOUTS", "OWN_DATA", "Classified", "load", "load_pretrained", "save"]

if not TYPE_CHECKING:  # minimae.weights.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
