"""Weights in and out: the authors' files, the big library's folders, timm's models, each read and written in its own layout.

``files`` opens what others have saved and runs no code from it · ``layouts`` knows how each library calls a parameter ·
``reading`` and ``writing`` turn that into our models and back · ``named`` fetches the authors' own weights by name.
"""

from typing import TYPE_CHECKING

from ..lazy import submodules
from .classified import Classified
from .layouts import LAYOUTS, detect
from .registry import OWN_DATA, load, load_pretrained, save

__all__ = ["LAYOUTS", "OWN_DATA", "Classified", "detect", "load", "load_pretrained", "save"]

if not TYPE_CHECKING:  # minimae.weights.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
