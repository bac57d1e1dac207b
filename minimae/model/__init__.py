"""The masked autoencoder, one step a module, in reading order: patches, masking, positions, vit, decoder, targets, mae."""

from typing import TYPE_CHECKING

from ..lazy import submodules

if not TYPE_CHECKING:  # minimae.model.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
